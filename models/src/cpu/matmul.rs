//! Matrix products over slices: the one door to the `gemm` crate, whose interface is raw pointers.
#![allow(unsafe_code)]

pub use gemm::Parallelism;

/// A strided view of a matrix in a slice.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// A mutable view of a matrix in a slice, its rows contiguous.
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` values, `row_stride` values apart.
    ///
    /// # Panics
    /// When the view is empty or reaches beyond its slice.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(last_index(rows, columns, row_stride) < data.len());
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The same values with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

impl<'a> MatrixMut<'a> {
    /// Rows of `columns` values, `row_stride` values apart.
    ///
    /// # Panics
    /// When the view is empty or reaches beyond its slice.
    #[must_use]
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(last_index(rows, columns, row_stride) < data.len());
        assert!(rows == 1 || row_stride >= columns, "rows must not overlap");
        Self {
            data,
            rows,
            columns,
            row_stride,
        }
    }
}

fn last_index(rows: usize, columns: usize, row_stride: usize) -> usize {
    assert!(rows > 0 && columns > 0, "an empty matrix has no product");
    (rows - 1) * row_stride + columns - 1
}

/// `destination = left × right`, or `destination += left × right` when `accumulate`.
///
/// # Panics
/// When the shapes do not agree.
pub fn multiply(
    destination: &mut MatrixMut<'_>,
    accumulate: bool,
    left: Matrix<'_>,
    right: Matrix<'_>,
    parallelism: Parallelism,
) {
    assert_eq!(left.columns, right.rows);
    assert_eq!(
        (destination.rows, destination.columns),
        (left.rows, right.columns)
    );
    // SAFETY: the constructors checked that the last element of each view (and with non-negative
    // strides every other) lies within its slice, and the shapes agree by the assertions above.
    // `destination` is borrowed mutably, so it overlaps neither input, and its rows do not overlap
    // each other, so gemm's threads write disjoint elements. All three are initialised f32s.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            destination.data.as_mut_ptr(),
            1,
            destination.row_stride as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Products of views that start inside a larger matrix, against the definition.
    #[test]
    fn agrees_with_the_definition() {
        let (m, n, k, stride) = (5, 7, 9, 11);
        let values = |seed: usize| {
            (0..200)
                .map(|i| ((i * 37 + seed * 101) % 19) as f32 - 9.0)
                .collect::<Vec<_>>()
        };
        let (a, b) = (values(1), values(2));
        for (accumulate, transpose) in [(false, false), (true, false), (false, true), (true, true)]
        {
            let mut c = values(3);
            let mut expected = c.clone();
            for row in 0..m {
                for column in 0..n {
                    let product: f32 = (0..k)
                        .map(|depth| {
                            let right = if transpose {
                                column * stride + depth
                            } else {
                                depth * stride + column
                            };
                            a[row * stride + depth] * b[right]
                        })
                        .sum();
                    let cell = &mut expected[row * stride + column];
                    *cell = if accumulate { *cell + product } else { product };
                }
            }
            let right = if transpose {
                Matrix::new(&b, n, k, stride).transposed()
            } else {
                Matrix::new(&b, k, n, stride)
            };
            multiply(
                &mut MatrixMut::new(&mut c, m, n, stride),
                accumulate,
                Matrix::new(&a, m, k, stride),
                right,
                Parallelism::None,
            );
            assert_eq!(
                c, expected,
                "accumulate {accumulate}, transpose {transpose}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "data.len()")]
    fn refuses_a_view_beyond_its_slice() {
        let _ = Matrix::new(&[0.0; 10], 3, 4, 4);
    }
}
