//! Trains XOR, with the declarations that it needs of microbp.h.
use std::ffi::{c_char, c_int, c_void, CStr};
use std::mem::{size_of, zeroed};
use std::ptr::{null, null_mut};

#[repr(C)]
struct Error {
    status: c_int,
    node: c_int,
    row: i64,
    step: i64,
    number: c_int,
    text: [c_char; 256],
}

#[repr(C)]
struct Array {
    data: *const c_void,
    dtype: c_int,
    rows: i64,
    cols: i64,
    row_stride: i64,
    col_stride: i64,
    indptr: *const c_void,
    indices: *const c_void,
    index_dtype: c_int,
    flags: c_int,
}

#[repr(C)]
struct Batch {
    size: usize,
    x: *const Array,
    n_x: c_int,
    y: *const Array,
    n_y: c_int,
    weight: *const Array,
    element_weights: *const Array,
    lengths: *const Array,
    state: *const c_void,
    same: c_int,
}

#[repr(C)]
struct Net(c_void);
#[repr(C)]
struct Trainer(c_void);

extern "C" {
    fn mbp_net_create(net: *mut *mut Net, graph: *const c_char, options: *const c_void, error: *mut Error) -> c_int;
    fn mbp_net_free(net: *mut Net);
    fn mbp_net_predict(
        net: *mut Net, x: *const Array, n_x: c_int, out: *const Array, n_out: c_int, raw: c_int, node: c_int, error: *mut Error,
    ) -> c_int;
    fn mbp_trainer_create(
        trainer: *mut *mut Trainer, net: *mut Net, losses: *const *const c_char, loss_weights: *const f64, n_losses: c_int,
        optimizer: *const c_char, error: *mut Error,
    ) -> c_int;
    fn mbp_trainer_free(trainer: *mut Trainer);
    fn mbp_trainer_step(trainer: *mut Trainer, batch: *const Batch, loss: *mut f64, error: *mut Error) -> c_int;
}

fn matrix(values: *const f32, rows: i64, cols: i64) -> Array {
    Array { data: values.cast(), rows, cols, row_stride: 4 * cols, col_stride: 4, ..unsafe { zeroed() } }
}

fn main() {
    let x = [0f32, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
    let y = [0f32, 1.0, 1.0, 0.0];
    let mut predictions = [0f32; 4];
    let (inputs, targets, outputs) = (matrix(x.as_ptr(), 4, 2), matrix(y.as_ptr(), 4, 1), matrix(predictions.as_mut_ptr(), 4, 1));
    let mut loss = 0f64;
    unsafe {
        let mut error: Error = zeroed();
        let (mut net, mut trainer) = (null_mut(), null_mut());
        let batch = Batch { size: size_of::<Batch>(), x: &inputs, n_x: 1, y: &targets, n_y: 1, ..zeroed() };
        let graph = c"input 2\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n";
        let mut status = mbp_net_create(&mut net, graph.as_ptr(), null(), &mut error);
        if status == 0 {
            status = mbp_trainer_create(&mut trainer, net, &c"bce".as_ptr(), null(), 1, c"adam(lr=0.05)".as_ptr(), &mut error);
        }
        for _ in 0..300 {
            if status == 0 {
                status = mbp_trainer_step(trainer, &batch, &mut loss, &mut error);
            }
        }
        if status == 0 {
            status = mbp_net_predict(net, &inputs, 1, &outputs, 1, 0, -1, &mut error);
        }
        assert_eq!(status, 0, "{}", CStr::from_ptr(error.text.as_ptr()).to_string_lossy());
        mbp_trainer_free(trainer);
        mbp_net_free(net);
    }
    let learnt = predictions.iter().zip(y).all(|(p, t)| (*p > 0.5) == (t > 0.5));
    println!("{} {:.0}", if learnt { "learnt" } else { "wrong" }, loss * 2f64.powi(70));
    assert!(learnt);
}
