//! The module's exports: what `app!` expands to, over the functions of the reducer.

use core::panic::PanicInfo;

use crate::host::{log_line, Context, Kind, Level, Result};
use crate::msgpack::Decoder;
use crate::reject;
use crate::value::{Opening, Path, Value};

const HEADER_BYTES: usize = 80;

/// The reducer's functions.
pub struct Handlers<Params> {
    pub open: fn(&Context, Opening<Params>) -> Result,
    pub message: fn(&Context, &mut Decoder) -> Result,
    pub tick: Option<fn(&Context) -> Result>,
}

/// One entry; 0 accepts it.
pub fn reduce<Params: Value>(pointer: *const u8, length: usize, handlers: Handlers<Params>) -> i32 {
    let buffer: &'static [u8] = unsafe { core::slice::from_raw_parts(pointer, length) };
    run(buffer, handlers).is_err() as i32
}

fn run<Params: Value>(buffer: &'static [u8], handlers: Handlers<Params>) -> Result {
    let context = Context::of(buffer);
    let mut decoder = Decoder { data: &buffer[HEADER_BYTES..], at: 0 };
    match (context.kind, handlers.tick) {
        (Kind::Open, _) => {
            let opening = Opening::take(&mut decoder, &Path { above: None, name: "" })?;
            decoder.ended()?;
            (handlers.open)(&context, opening)
        }
        (Kind::Message, _) => (handlers.message)(&context, &mut decoder),
        (Kind::Tick, Some(tick)) => tick(&context),
        (Kind::Tick, None) => reject!("this app takes no ticks"),
        (Kind::Other(kind), _) => reject!("entries of kind {} are unknown here", kind),
    }
}

/// A failed check (overflow, bad index) says so in the log and traps; the host undoes the message.
pub fn panicked(info: &PanicInfo) -> ! {
    log_line(Level::Error, crate::text!("{}", info));
    core::arch::wasm32::unreachable()
}

/// The last item of a reducer. `tick` and `views` may be left out.
///
/// ```text
/// app! {
///     name: "ledger", version: "1.0.0",
///     tables: [Account, Transfer],
///     views: ["holder" of Account { owner, balance }],
///     params: Params, messages: Message,
///     open: open, message: message, tick: tick,
/// }
/// ```
#[macro_export]
macro_rules! app {
    (
        name: $name:literal, version: $version:literal,
        tables: [$($table:ident),+ $(,)?],
        $( views: [$($view:literal of $of:ident { $($column:ident),+ }),* $(,)?], )?
        params: $params:ty, messages: $messages:ident,
        open: $open:path, message: $message:path $(, tick: $tick:path)? $(,)?
    ) => {
        $crate::__number!(0, [$(core::stringify!($table)),+].len(); $($table)+);

        static APP: $crate::AppInfo = $crate::AppInfo {
            name: $name,
            version: $version,
            tables: &[$(<$table as $crate::Table>::INFO),+],
            views: &[$( $( $crate::ViewInfo { name: $view, table: <$of as $crate::Table>::INFO.name, columns: &[$(core::stringify!($column)),+] } ),* )?],
            messages: $messages::MESSAGES,
        };
        $( $( const _: fn(&$of) = |row| { $( let _ = &row.$column; )+ }; )* )?

        #[no_mangle]
        pub extern "C" fn scapp_manifest() -> u64 {
            $crate::internal::reset();
            let document = $crate::internal::document(&APP);
            (document.as_ptr() as u64) << 32 | document.len() as u64
        }

        #[no_mangle]
        pub extern "C" fn scapp_alloc(length: usize) -> *mut u8 {
            $crate::internal::reset();
            $crate::internal::alloc(length).as_mut_ptr()
        }

        #[no_mangle]
        pub extern "C" fn scapp_reduce(pointer: *const u8, length: usize) -> i32 {
            $crate::internal::reduce::<$params>(pointer, length, $crate::internal::Handlers {
                open: $open,
                message: |context, decoder| {
                    let message = $messages::decode(decoder)?;
                    decoder.ended()?;
                    $message(context, message)
                },
                tick: $crate::__default!($($tick)?),
            })
        }

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo) -> ! {
            $crate::internal::panicked(info)
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __number {
    ($number:expr, $index:expr; ) => {};
    ($number:expr, $index:expr; $table:ident $($rest:ident)*) => {
        impl $crate::Listed for $table {
            const NUMBER: u32 = $number;
            const FIRST_INDEX: u32 = $index as u32;
        }
        $crate::__number!($number + 1, <$table as $crate::Listed>::FIRST_INDEX as usize + <$table as $crate::Table>::INFO.indexes.len(); $($rest)*);
    };
}
