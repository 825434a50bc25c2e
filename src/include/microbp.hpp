/* microbp.hpp: microbp.h for C++17. Header-only: it owns the handles, and takes vectors, arrays and pointers as matrices.
 *
 *     std::vector<float> x = {0, 0, 0, 1, 1, 0, 1, 1}, y = {0, 1, 1, 0}, p(4);
 *     microbp::Net net;
 *     microbp::Trainer trainer;
 *     double loss;
 *     if (auto error = net.create("input 2\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n"))
 *         return std::puts(error.text), 1;
 *     net.create(...).or_throw();                    // the same, where exceptions are enabled
 *     trainer.create(net, {"bce"}, "adam(lr=0.05)").or_throw();
 *     trainer.step({x, 2}, {y, 1}, loss).or_throw(); // {vector, columns}
 *     net.predict({x, 2}, {p, 1}).or_throw();
 *
 * Every call that can fail returns an Error, which is true if the call failed. Exceptions are not needed. What is not
 * here is in microbp.h: get() gives the handle that its functions take. */
#ifndef MICROBP_HPP
#define MICROBP_HPP

#if __cplusplus < 201703L && (!defined(_MSVC_LANG) || _MSVC_LANG < 201703L)
#error "microbp.hpp needs C++17: compile with -std=c++17"
#endif

#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#if defined(__cpp_exceptions)
#include <stdexcept>
#endif

#include "microbp.h"

namespace microbp {

/* The result of a call: true if it failed; `text` then says why. */
struct [[nodiscard]] Error : mbp_error {
    Error() : mbp_error{} { node = -1, row = step = -1; }
    explicit operator bool() const { return status != MBP_OK; }
#if defined(__cpp_exceptions)
    /* Throws std::runtime_error if the call failed. */
    void or_throw() const {
        if (*this)
            throw std::runtime_error(text);
    }
#endif
};

template <class T> constexpr mbp_dtype dtype_of() {
    using U = std::remove_cv_t<T>;
    static_assert(std::is_arithmetic_v<U> && !std::is_same_v<U, bool> && sizeof(U) <= 8,
                  "microbp has no such type of elements");
    if constexpr (std::is_floating_point_v<U>)
        return sizeof(U) == 4 ? MBP_F32 : MBP_F64;
    else if constexpr (std::is_signed_v<U>)
        return sizeof(U) == 1 ? MBP_I8 : sizeof(U) == 2 ? MBP_I16 : sizeof(U) == 4 ? MBP_I32 : MBP_I64;
    else
        return sizeof(U) == 1 ? MBP_U8 : sizeof(U) == 2 ? MBP_U16 : sizeof(U) == 4 ? MBP_U32 : MBP_U64;
}

/* A vector of elements in memory that is owned elsewhere. */
template <class T> struct Span {
    T *at = nullptr;
    int64_t count = 0;
    T *begin() const { return at; }
    T *end() const { return at + count; }
    T *data() const { return at; }
    int64_t size() const { return count; }
    T &operator[](int64_t i) const { return at[i]; }
};

/* A matrix in memory that is owned elsewhere, rows x columns, row by row. The memory must outlive the call only. */
struct Matrix : mbp_array {
    template <class T>
    Matrix(T *elements, int64_t row_count, int64_t columns)
        : mbp_array(mbp_contiguous(elements, dtype_of<T>(), sizeof(T), row_count, columns)) {}
    /* A std::vector, std::array or std::span. If its elements are no whole number of rows, it is one row of all of them,
     * which the call refuses with their count. */
    template <class Elements, class = decltype(std::declval<Elements &>().data())>
    Matrix(Elements &&elements, int64_t columns)
        : Matrix(elements.data(), rows_of(elements.size(), columns),
                 fits(elements.size(), columns) ? columns : static_cast<int64_t>(elements.size())) {}
    /* One row of numbers. */
    template <class T, size_t N> Matrix(T (&row)[N]) : Matrix(row, 1, N) {}
    Matrix(const mbp_array &array) : mbp_array(array) {}

  private:
    static bool fits(size_t count, int64_t columns) { return columns > 0 && count % static_cast<size_t>(columns) == 0; }
    static int64_t rows_of(size_t count, int64_t columns) {
        return fits(count, columns) ? static_cast<int64_t>(count) / columns : 1;
    }
};

/* A matrix that a call writes to. */
struct Output : Matrix {
    template <class T, class = std::enable_if_t<!std::is_const_v<T>>>
    Output(T *elements, int64_t row_count, int64_t columns) : Matrix(elements, row_count, columns) {}
    template <class Elements, class E = std::remove_pointer_t<decltype(std::declval<Elements &>().data())>,
              class = std::enable_if_t<!std::is_const_v<E>>>
    Output(Elements &&elements, int64_t columns) : Matrix(elements, columns) {}
    template <class T, size_t N, class = std::enable_if_t<!std::is_const_v<T>>> Output(T (&row)[N]) : Matrix(row) {}
    Output(const mbp_array &array) : Matrix(array) {}
};

/* Options for nets: as mbp_options, with all fields 0. */
inline mbp_options options(mbp_dtype dtype = MBP_F32, uint64_t seed = 0, mbp_pool *pool = nullptr) {
    mbp_options o = {};
    o.size = sizeof o, o.dtype = dtype, o.seed = seed, o.pool = pool;
    return o;
}

/* Calls create(&handle, arguments..., &error). If that fails, `handle` keeps what it has. */
template <class T, class Create, class... Arguments>
Error make(std::shared_ptr<T> &handle, void (*release)(T *), Create create, Arguments... arguments) {
    T *made = nullptr;
    Error error;
    if (!create(&made, arguments..., &error))
        handle = std::shared_ptr<T>(made, release);
    return error;
}

/* Calls function(handle, arguments..., &error). */
template <class T, class Function, class... Arguments>
Error call(const std::shared_ptr<T> &handle, Function function, Arguments... arguments) {
    Error error;
    function(handle.get(), arguments..., &error);
    return error;
}

/* Threads that nets may share. It must outlive the nets that use it. */
class Pool {
  public:
    Error create(int threads = 0) { return make(pool, &mbp_pool_free, &mbp_pool_create, threads, nullptr); }
    mbp_pool *get() const { return pool.get(); }

  private:
    std::shared_ptr<mbp_pool> pool;
};

/* A network. A copy of this object refers to the same network. */
class Net {
  public:
    Error create(const char *graph, const mbp_options &o = options()) {
        return make(net, &mbp_net_free, &mbp_net_create, graph, &o);
    }
    Error load(const char *path, const mbp_options &o = options()) {
        return make(net, &mbp_net_free, &mbp_net_load, path, &o);
    }
    Error save(const char *path) const { return call(net, &mbp_net_save, path); }
    /* Makes this a net of its own with the values of the other; a net of some of its nodes, with the same values. */
    Error copy(const Net &other) {
        return make(net, &mbp_net_free, &mbp_net_copy, static_cast<const mbp_net *>(other.get()), nullptr);
    }
    Error part(const Net &of, std::initializer_list<int> inputs, std::initializer_list<int> outputs) {
        return make(net, &mbp_net_free, &mbp_net_part, of.get(), inputs.begin(), static_cast<int>(inputs.size()),
                    outputs.begin(), static_cast<int>(outputs.size()));
    }
    /* After this, predictions of up to this many rows allocate nothing. */
    Error reserve(int64_t rows) { return call(net, &mbp_net_reserve, rows); }

    /* Predicts the rows of x. raw: without the output activation. */
    Error predict(const Matrix &x, const Output &out, bool raw = false) { return predict(&x, 1, &out, 1, raw); }
    Error predict(const mbp_array *x, int n_x, const mbp_array *out, int n_out, bool raw = false, int node = -1) {
        return call(net, &mbp_net_predict, x, n_x, out, n_out, static_cast<int>(raw), node);
    }
    Error predict(const mbp_array *x, int n_x, const mbp_array *out, int n_out, const mbp_prediction &how) {
        return call(net, &mbp_net_predict_with, x, n_x, out, n_out, &how);
    }
    Error jacobian(const Matrix &x, const Output &out, mbp_by by = MBP_BY_PARAMS) {
        return jacobian(&x, 1, &out, 1, by);
    }
    Error jacobian(const mbp_array *x, int n_x, const mbp_array *out, int n_out, mbp_by by, int output = -1) {
        return call(net, &mbp_net_jacobian, x, n_x, by, output, out, n_out);
    }
    Error freeze(const char *layer, bool frozen = true) {
        return call(net, &mbp_net_freeze, layer, static_cast<int>(frozen));
    }

    /* T is the type of the net's numbers, float or double; otherwise the span is empty. */
    template <class T> Span<T> params() { return vector<T>(&mbp_net_params); }
    template <class T> Span<T> buffers() { return vector<T>(&mbp_net_buffers); }

    std::string text() const {
        std::string written(mbp_net_text(get(), nullptr, 0), '\0');
        mbp_net_text(get(), written.data(), written.size());
        if (!written.empty())
            written.pop_back(); /* the terminating zero */
        return written;
    }
    mbp_net *get() const { return net.get(); }

  private:
    friend class Trainer;
    std::shared_ptr<mbp_net> net;

    template <class T> Span<T> vector(void *(*get_vector)(mbp_net *, int64_t *)) {
        Span<T> span;
        if (get() && mbp_net_dtype(get()) == dtype_of<T>())
            span.at = static_cast<T *>(get_vector(get(), &span.count));
        return span;
    }
};

/* A trainer. It keeps its net. */
class Trainer {
  public:
    Error create(const Net &of, std::initializer_list<const char *> losses, const char *optimizer,
                 const double *loss_weights = nullptr) {
        const Error error = make(trainer, &mbp_trainer_free, &mbp_trainer_create, of.get(), losses.begin(),
                                 loss_weights, static_cast<int>(losses.size()), optimizer);
        if (!error)
            net = of.net;
        return error;
    }

    /* Makes the trainer of a file and its net. */
    Error load(Net &loaded, const char *path, const mbp_options &o = options()) {
        mbp_net *raw = nullptr;
        std::shared_ptr<mbp_trainer> made;
        const Error error = make(made, &mbp_trainer_free, &mbp_trainer_load, &raw, path, &o);
        if (!error) {
            trainer = std::move(made);
            net = std::shared_ptr<mbp_net>(raw, &mbp_net_free);
            loaded.net = net;
        }
        return error;
    }
    Error save(const char *path) const { return call(trainer, &mbp_trainer_save, path); }
    /* After this, calls with up to this many rows allocate nothing. */
    Error reserve(int64_t rows) { return call(trainer, &mbp_trainer_reserve, rows); }

    /* Trains for several epochs; x and y are those of a net with one input and one output. */
    Error fit(const Matrix &x, const Matrix &y, int64_t epochs, int64_t batch_rows = 0) {
        mbp_fit how = {};
        how.size = sizeof how, how.epochs = epochs, how.batch_rows = batch_rows;
        return fit(batch(x, y), how);
    }
    Error fit(const mbp_batch &data, const mbp_fit &how, mbp_record *record = nullptr) {
        return call(trainer, &mbp_trainer_fit, &data, &how, record);
    }
    Error measure(const Matrix &x, const Matrix &y, const char *name, double &value) {
        const mbp_batch data = batch(x, y);
        return call(trainer, &mbp_trainer_measure, &data, 0, name, &value);
    }

    /* One step on a batch of a net with one input and one output. */
    Error step(const Matrix &x, const Matrix &y, double &loss) { return step(batch(x, y), loss); }
    Error step(const mbp_batch &data, double &loss) { return call(trainer, &mbp_trainer_step, &data, &loss); }
    Error backward(const mbp_batch &data, double &loss, const mbp_backward *how = nullptr) {
        return call(trainer, &mbp_trainer_backward, &data, how, &loss);
    }
    Error apply() { return call(trainer, &mbp_trainer_apply); }
    Error evaluate(const Matrix &x, const Matrix &y, double &loss) { return evaluate(batch(x, y), loss); }
    Error evaluate(const mbp_batch &data, double &loss) { return call(trainer, &mbp_trainer_evaluate, &data, &loss); }

    Error set(const char *name, double value) { return call(trainer, &mbp_trainer_set, name, value); }
    Error value(const char *name, double &value) const { return call(trainer, &mbp_trainer_get, name, &value); }
    int64_t steps() const { return mbp_trainer_steps(get()); }
    mbp_trainer *get() const { return trainer.get(); }

  private:
    /* x and y must outlive the batch. */
    static mbp_batch batch(const Matrix &x, const Matrix &y) { return mbp_batch_of(&x, &y); }

    std::shared_ptr<mbp_net> net; /* above the trainer, so that it is freed after it */
    std::shared_ptr<mbp_trainer> trainer;
};

} // namespace microbp

#endif
