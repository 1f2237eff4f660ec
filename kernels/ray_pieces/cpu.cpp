#include <algorithm>
#include <cmath>

#include "shared/export.h"
#include "shared/parallel.h"

namespace {

constexpr int COLUMNS = 11, CUTS = 12;
constexpr double SHORTEST = 1e-6;  // pieces shorter than this, in the cube, are left out
constexpr double HUGE_T = 1e30;    // stands for infinity, which fast-math does not know

struct Cube {
    double center[3], half, near;
};

// 0 inside; 1 + 2 a beyond the face of positive a, 2 + 2 a beyond that of negative a.
int region_of(const double* o, const double* d, double t) {
    double most = 0;
    int axis = 0;
    for (int a = 0; a < 3; ++a) {
        const double size = std::fabs(o[a] + t * d[a]);
        if (size > most) most = size, axis = a;
    }
    if (most <= 1) return 0;
    return 1 + 2 * axis + (o[axis] + t * d[axis] < 0);
}

struct End {
    double place[3], u, m;
};

End end_at(const double* o, const double* d, double t, int region) {
    const bool away = t >= HUGE_T;
    const int axis = region ? (region - 1) / 2 : 0;
    const double sign = region % 2 ? 1 : -1;
    double scale = 1;
    if (region) scale = 1 / (sign * (away ? d[axis] : o[axis] + t * d[axis]));
    End end;
    for (int a = 0; a < 3; ++a) end.place[a] = (away ? d[a] : o[a] + t * d[a]) * scale;
    end.u = away ? 0 : scale;
    end.m = away ? scale : scale * t;
    if (region) end.place[axis] = sign * (2 - end.u);
    return end;
}

// Calls emit(row) for every piece of a ray, front to back.
template <class Emit>
void cut(const Cube& cube, const float* origin, const float* direction, const Emit& emit) {
    double o[3], d[3], size = 0;
    for (int a = 0; a < 3; ++a) {
        o[a] = (origin[a] - cube.center[a]) / cube.half;
        d[a] = direction[a] / cube.half;
        size += d[a] * d[a];
        // also false for what is no number
        if (!(o[a] > -1e18 && o[a] < 1e18) || !(direction[a] > -1e6 && direction[a] < 1e6)) return;
    }
    if (!(size > 0)) return;
    double cuts[CUTS + 2];
    cuts[0] = cube.near;
    int n = 1;
    const auto add = [&](double above, double below) {
        if (std::fabs(below) * HUGE_T <= std::fabs(above)) return;
        const double t = above / below;
        if (!(t > cube.near)) return;
        int place = n++;
        for (; cuts[place - 1] > t; --place) cuts[place] = cuts[place - 1];
        cuts[place] = t;
    };
    for (int a = 0; a < 3; ++a) {
        const int b = (a + 1) % 3;
        for (int sign = -1; sign < 2; sign += 2) {
            add(sign - o[a], d[a]);
            add(sign * o[b] - o[a], d[a] - sign * d[b]);
        }
    }
    cuts[n] = HUGE_T;
    const auto region_after = [&](int i) {
        const double t = i + 1 < n ? (cuts[i] + cuts[i + 1]) / 2 : 2 * cuts[i] + cube.half;
        return region_of(o, d, t);
    };
    for (int i = 0; i < n;) {
        const int first = i, region = region_after(i);
        for (++i; i < n && region_after(i) == region; ++i) {}
        const End a = end_at(o, d, cuts[first], region), b = end_at(o, d, cuts[i], region);
        double way[3], square = 0;
        for (int k = 0; k < 3; ++k) way[k] = b.place[k] - a.place[k], square += way[k] * way[k];
        if (!(square > SHORTEST * SHORTEST)) continue;
        const double length = std::sqrt(square);
        float row[COLUMNS];
        for (int k = 0; k < 3; ++k) row[k] = static_cast<float>(a.place[k]);
        for (int k = 0; k < 3; ++k) row[3 + k] = static_cast<float>(way[k] / length);
        row[6] = static_cast<float>(length);
        row[7] = static_cast<float>(a.u);
        row[8] = static_cast<float>((b.u - a.u) / length);
        row[9] = static_cast<float>(a.m);
        row[10] = static_cast<float>((b.m - a.m) / length);
        emit(row);
    }
}

}  // namespace

// With `rows` null counts the pieces of every ray into first[1 ...]; otherwise writes them from
// rows[first[r]] on. `cube`: center [3], half edge, near.
NK_EXPORT void nk_ray_pieces(const float* origins, const float* directions, int64_t n_rays,
                             const double* cube, int64_t* first, float* rows) {
    const Cube c{{cube[0], cube[1], cube[2]}, cube[3], cube[4]};
    nk::parallel_for(n_rays, 512, [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
            int64_t count = 0;
            cut(c, origins + r * 3, directions + r * 3, [&](const float* row) {
                if (rows) std::copy(row, row + COLUMNS, rows + (first[r] + count) * COLUMNS);
                ++count;
            });
            if (!rows) first[r + 1] = count;
        }
    });
}
