//! LightGBM's C interface (`include/LightGBM/c_api.h` of 4.7), behind owning types.
//!
//! The only unsafe code of this crate. Everything above gives slices and gets results: lengths are
//! taken from the slices, handles are freed when dropped, and a booster keeps its data sets.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;

use libloading::Library;

/// A call of LightGBM's that failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("LightGBM's {call} said: {message}")]
pub struct LightGbmError {
    /// The C function, or what was wrong with what it was to be given.
    pub call: &'static str,
    /// What LightGBM said.
    pub message: String,
}

type Handle = *mut c_void;

const FLOAT32: c_int = 0;
const INT32: c_int = 2;
const ROW_MAJOR: c_int = 1;
const IMPORTANCE_BY_GAIN: c_int = 1;
/// All iterations, in the calls that take a number of them.
const ALL: c_int = -1;

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) -> $result:ty,)+) => {
        /// The functions that are called, by their names in C.
        #[allow(non_snake_case)]
        #[derive(Debug)]
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) -> $result,)+
        }

        impl Functions {
            /// # Safety
            /// The library must be LightGBM, so that its functions have these signatures.
            unsafe fn resolve(library: &Library) -> Result<Self, libloading::Error> {
                // SAFETY: the caller says that the symbols have these types.
                unsafe {
                    Ok(Self {
                        $($name: *library.get(concat!(stringify!($name), "\0"))?,)+
                    })
                }
            }
        }
    };
}

functions! {
    LGBM_GetLastError: fn() -> *const c_char,
    LGBM_RegisterLogCallback: fn(extern "C" fn(*const c_char)) -> c_int,
    LGBM_DatasetCreateFromMat: fn(*const c_void, c_int, i32, i32, c_int, *const c_char, Handle, *mut Handle) -> c_int,
    LGBM_DatasetSetFeatureNames: fn(Handle, *const *const c_char, c_int) -> c_int,
    LGBM_DatasetSetField: fn(Handle, *const c_char, *const c_void, c_int, c_int) -> c_int,
    LGBM_DatasetFree: fn(Handle) -> c_int,
    LGBM_BoosterCreate: fn(Handle, *const c_char, *mut Handle) -> c_int,
    LGBM_BoosterLoadModelFromString: fn(*const c_char, *mut c_int, *mut Handle) -> c_int,
    LGBM_BoosterFree: fn(Handle) -> c_int,
    LGBM_BoosterAddValidData: fn(Handle, Handle) -> c_int,
    LGBM_BoosterUpdateOneIter: fn(Handle, *mut c_int) -> c_int,
    LGBM_BoosterGetNumPredict: fn(Handle, c_int, *mut i64) -> c_int,
    LGBM_BoosterGetPredict: fn(Handle, c_int, *mut i64, *mut f64) -> c_int,
    LGBM_BoosterSaveModelToString: fn(Handle, c_int, c_int, c_int, i64, *mut i64, *mut c_char) -> c_int,
    LGBM_BoosterPredictForMat: fn(Handle, *const c_void, c_int, i32, i32, c_int, c_int, c_int, c_int, *const c_char, *mut i64, *mut f64) -> c_int,
}

/// The loaded library.
#[derive(Debug)]
pub(super) struct Api {
    functions: Functions,
    /// Never unloaded: threads of its OpenMP runtime outlive the calls and run its code.
    _library: ManuallyDrop<Library>,
}

impl Api {
    /// Loads a library by path, or by bare name from where the system looks.
    pub fn load(name: &OsStr) -> Result<Self, libloading::Error> {
        // SAFETY: loading runs the library's initialisers. Those of LightGBM and of the OpenMP and
        // C++ runtimes that it needs ask nothing of the process. That the file is LightGBM is what
        // the pinned checksum says, or whoever set the path or installed it in the system.
        unsafe {
            let library = Library::new(name)?;
            Ok(Self {
                functions: Functions::resolve(&library)?,
                _library: ManuallyDrop::new(library),
            })
        }
    }

    fn check(&self, call: &'static str, status: c_int) -> Result<(), LightGbmError> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: LightGBM returns its buffer of this thread, ended by NUL and unchanged until the
        // next call on this thread.
        let message = unsafe { CStr::from_ptr((self.functions.LGBM_GetLastError)()) };
        Err(LightGbmError {
            call,
            message: message.to_string_lossy().trim().to_owned(),
        })
    }

    /// Sends LightGBM's messages of this thread to the log instead of standard output.
    fn log_this_thread(&self) -> Result<(), LightGbmError> {
        // SAFETY: the callback is a plain function, valid as long as the process.
        let status = unsafe { (self.functions.LGBM_RegisterLogCallback)(log) };
        self.check("LGBM_RegisterLogCallback", status)
    }
}

thread_local! {
    /// LightGBM hands a line over in several pieces.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

extern "C" fn log(piece: *const c_char) {
    if piece.is_null() {
        return;
    }
    // SAFETY: LightGBM passes a string ended by NUL that lives as long as the call.
    let piece = unsafe { CStr::from_ptr(piece) }.to_string_lossy();
    LINE.with_borrow_mut(|line| {
        line.push_str(&piece);
        while let Some(end) = line.find('\n') {
            let whole: String = line.drain(..=end).collect();
            tracing::debug!(target: "lightgbm", "{}", whole.trim());
        }
    });
}

/// A string for C.
fn c_string(what: &'static str, text: &str) -> Result<CString, LightGbmError> {
    CString::new(text).map_err(|error| LightGbmError {
        call: what,
        message: error.to_string(),
    })
}

/// A length for C.
fn c_length(what: &'static str, length: usize) -> Result<i32, LightGbmError> {
    i32::try_from(length).map_err(|_| LightGbmError {
        call: what,
        message: format!("{length} is more than LightGBM counts"),
    })
}

/// Rows that are prepared for training.
#[derive(Debug)]
pub(super) struct DatasetHandle {
    api: Arc<Api>,
    handle: Handle,
}

impl DatasetHandle {
    /// Bins `rows` (row-major), as another data set was where one is given. `columns` is at least 1
    /// and divides the number of values.
    pub fn from_rows(
        api: &Arc<Api>,
        rows: &[f32],
        columns: usize,
        parameters: &str,
        binned_as: Option<&Self>,
    ) -> Result<Self, LightGbmError> {
        const CALL: &str = "LGBM_DatasetCreateFromMat";
        api.log_this_thread()?;
        assert!(columns > 0 && rows.len().is_multiple_of(columns));
        let parameters = c_string(CALL, parameters)?;
        let (count, columns) = (
            c_length(CALL, rows.len() / columns)?,
            c_length(CALL, columns)?,
        );
        let mut handle = ptr::null_mut();
        // SAFETY: `rows` has count · columns values (asserted above) and is only read during the
        // call; the reference is a live data set or null; `handle` is written on success.
        let status = unsafe {
            (api.functions.LGBM_DatasetCreateFromMat)(
                rows.as_ptr().cast(),
                FLOAT32,
                count,
                columns,
                ROW_MAJOR,
                parameters.as_ptr(),
                binned_as.map_or(ptr::null_mut(), |data| data.handle),
                &raw mut handle,
            )
        };
        api.check(CALL, status)?;
        let api = api.clone();
        Ok(Self { api, handle })
    }

    pub fn set_feature_names(&self, names: &[String]) -> Result<(), LightGbmError> {
        const CALL: &str = "LGBM_DatasetSetFeatureNames";
        let names: Vec<CString> = names
            .iter()
            .map(|name| c_string(CALL, name))
            .collect::<Result<_, _>>()?;
        let pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: as many strings as announced, which live beyond the call; LightGBM copies them.
        let status = unsafe {
            (self.api.functions.LGBM_DatasetSetFeatureNames)(
                self.handle,
                pointers.as_ptr(),
                c_length(CALL, pointers.len())?,
            )
        };
        self.api.check(CALL, status)
    }

    /// Sets `label` or `weight`.
    pub fn set_floats(&self, field: &'static CStr, values: &[f32]) -> Result<(), LightGbmError> {
        self.set_field(field, values.as_ptr().cast(), values.len(), FLOAT32)
    }

    /// Sets `group` or `position`.
    pub fn set_integers(&self, field: &'static CStr, values: &[i32]) -> Result<(), LightGbmError> {
        self.set_field(field, values.as_ptr().cast(), values.len(), INT32)
    }

    fn set_field(
        &self,
        field: &'static CStr,
        values: *const c_void,
        length: usize,
        kind: c_int,
    ) -> Result<(), LightGbmError> {
        const CALL: &str = "LGBM_DatasetSetField";
        let length = c_length(CALL, length)?;
        // SAFETY: both callers pass a slice's pointer, its length and the kind of its values, in a
        // field that takes this kind; LightGBM copies them.
        let status = unsafe {
            (self.api.functions.LGBM_DatasetSetField)(
                self.handle,
                field.as_ptr(),
                values,
                length,
                kind,
            )
        };
        self.api.check(CALL, status)
    }
}

impl Drop for DatasetHandle {
    fn drop(&mut self) {
        // SAFETY: the handle came from a successful creation and is freed once. A booster that uses
        // it owns it and frees itself first.
        unsafe { (self.api.functions.LGBM_DatasetFree)(self.handle) };
    }
}

/// Trees, being grown or read from a text.
#[derive(Debug)]
pub(super) struct BoosterHandle {
    api: Arc<Api>,
    handle: Handle,
    /// LightGBM keeps pointers into them. Dropped after the handle is freed, which `Drop` does first.
    _datasets: Vec<DatasetHandle>,
}

impl BoosterHandle {
    /// A booster that trains on the first data set and follows its scores on the second.
    pub fn create(
        api: &Arc<Api>,
        training: DatasetHandle,
        validation: Option<DatasetHandle>,
        parameters: &str,
    ) -> Result<Self, LightGbmError> {
        const CALL: &str = "LGBM_BoosterCreate";
        api.log_this_thread()?;
        let parameters = c_string(CALL, parameters)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the data set is live, and the booster keeps it below; `handle` is written on
        // success.
        let status = unsafe {
            (api.functions.LGBM_BoosterCreate)(
                training.handle,
                parameters.as_ptr(),
                &raw mut handle,
            )
        };
        api.check(CALL, status)?;
        let mut booster = Self {
            api: api.clone(),
            handle,
            _datasets: vec![training],
        };
        if let Some(validation) = validation {
            // SAFETY: both handles are live, and the booster keeps the data set.
            let status =
                unsafe { (api.functions.LGBM_BoosterAddValidData)(handle, validation.handle) };
            booster._datasets.push(validation);
            api.check("LGBM_BoosterAddValidData", status)?;
        }
        Ok(booster)
    }

    pub fn parse(api: &Arc<Api>, text: &str) -> Result<Self, LightGbmError> {
        const CALL: &str = "LGBM_BoosterLoadModelFromString";
        api.log_this_thread()?;
        let text = c_string(CALL, text)?;
        let (mut iterations, mut handle) = (0, ptr::null_mut());
        // SAFETY: the text is ended by NUL and only read during the call; both results are written
        // on success.
        let status = unsafe {
            (api.functions.LGBM_BoosterLoadModelFromString)(
                text.as_ptr(),
                &raw mut iterations,
                &raw mut handle,
            )
        };
        api.check(CALL, status)?;
        Ok(Self {
            api: api.clone(),
            handle,
            _datasets: Vec::new(),
        })
    }

    /// Grows one more tree; `false` when no split gained anything, and so none will.
    pub fn grow(&mut self) -> Result<bool, LightGbmError> {
        let mut finished = 0;
        // SAFETY: the handle is live and `finished` is written.
        let status = unsafe {
            (self.api.functions.LGBM_BoosterUpdateOneIter)(self.handle, &raw mut finished)
        };
        self.api.check("LGBM_BoosterUpdateOneIter", status)?;
        Ok(finished == 0)
    }

    /// Scores of the rows of a data set: 0 is the training set, 1 the validation set.
    pub fn dataset_scores(&self, index: c_int) -> Result<Vec<f64>, LightGbmError> {
        let mut length = 0;
        // SAFETY: the handle is live and `length` is written.
        let status = unsafe {
            (self.api.functions.LGBM_BoosterGetNumPredict)(self.handle, index, &raw mut length)
        };
        self.api.check("LGBM_BoosterGetNumPredict", status)?;
        let mut scores = vec![0.0; usize::try_from(length).unwrap_or(0)];
        // SAFETY: LightGBM writes as many scores as it announced.
        let status = unsafe {
            (self.api.functions.LGBM_BoosterGetPredict)(
                self.handle,
                index,
                &raw mut length,
                scores.as_mut_ptr(),
            )
        };
        self.api.check("LGBM_BoosterGetPredict", status)?;
        Ok(scores)
    }

    /// The text model of the first so many iterations, importances in it by gain.
    pub fn text(&self, iterations: i32) -> Result<String, LightGbmError> {
        const CALL: &str = "LGBM_BoosterSaveModelToString";
        let mut buffer: Vec<u8> = vec![0; 1 << 20];
        loop {
            let mut needed = 0;
            // SAFETY: LightGBM writes at most as many bytes as the buffer has, and the length that
            // it needs, the ending NUL included.
            let status = unsafe {
                (self.api.functions.LGBM_BoosterSaveModelToString)(
                    self.handle,
                    0,
                    iterations,
                    IMPORTANCE_BY_GAIN,
                    buffer.len() as i64,
                    &raw mut needed,
                    buffer.as_mut_ptr().cast(),
                )
            };
            self.api.check(CALL, status)?;
            let needed = usize::try_from(needed).unwrap_or(0);
            if needed > buffer.len() {
                buffer.resize(needed, 0);
                continue;
            }
            buffer.truncate(needed.saturating_sub(1));
            return String::from_utf8(buffer).map_err(|error| LightGbmError {
                call: CALL,
                message: error.to_string(),
            });
        }
    }

    /// Scores of rows (row-major), which must have as many columns as the model has features.
    pub fn predict(
        &self,
        rows: &[f32],
        columns: usize,
        kind: c_int,
        parameters: &str,
    ) -> Result<Vec<f64>, LightGbmError> {
        const CALL: &str = "LGBM_BoosterPredictForMat";
        self.api.log_this_thread()?;
        assert!(columns > 0 && rows.len().is_multiple_of(columns));
        let parameters = c_string(CALL, parameters)?;
        let mut scores = vec![0.0; rows.len() / columns];
        let mut length = 0;
        // SAFETY: `rows` has scores.len() · columns values (asserted above). LightGBM refuses a
        // number of columns other than the model's; it writes one score a row, because only models
        // with one are passed here (`Booster::parse`).
        let status = unsafe {
            (self.api.functions.LGBM_BoosterPredictForMat)(
                self.handle,
                rows.as_ptr().cast(),
                FLOAT32,
                c_length(CALL, scores.len())?,
                c_length(CALL, columns)?,
                ROW_MAJOR,
                kind,
                0,
                ALL,
                parameters.as_ptr(),
                &raw mut length,
                scores.as_mut_ptr(),
            )
        };
        self.api.check(CALL, status)?;
        Ok(scores)
    }
}

impl Drop for BoosterHandle {
    fn drop(&mut self) {
        // SAFETY: the handle came from a successful creation and is freed once, before its data sets.
        unsafe { (self.api.functions.LGBM_BoosterFree)(self.handle) };
    }
}
