// A growing array that keeps its memory between uses and does not clear it.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>

namespace nk {

template <class T>
class Buffer {
    static_assert(std::is_trivially_copyable<T>::value, "moved with realloc");

  public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }

    void clear() { size_ = 0; }
    size_t size() const { return size_; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }
    T* data() { return data_; }

    // Room for n items; contents beyond the old size are undefined.
    T* resize(size_t n) {
        if (n > capacity_) {
            const size_t capacity = n > 2 * capacity_ ? n : 2 * capacity_;
            void* grown = std::malloc(capacity * sizeof(T));
            if (!grown) throw std::bad_alloc();
            if (size_) std::memcpy(grown, data_, size_ * sizeof(T));
            std::free(data_);
            data_ = static_cast<T*>(grown);
            capacity_ = capacity;
        }
        size_ = n;
        return data_;
    }
    T& push() { return resize(size_ + 1)[size_ - 1]; }

  private:
    T* data_ = nullptr;
    size_t size_ = 0, capacity_ = 0;
};

}  // namespace nk
