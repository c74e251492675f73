//! Twins: a table of signatures becomes a type whose methods wait for those of its asynchronous twin.
//!
//! - A row is a kind, a name, generics in brackets, arguments and what is returned in the end. The kinds: `waits` for what is
//!   awaited there, `gives` for what is not, `with` for what takes the handle and gives it back.
//! - `tests/suite/blocking_surface.rs` reads these rows.

/// The text of a path.
macro_rules! path {
    ($first:ident $(::$next:ident)*) => {
        concat!(stringify!($first) $(, "::", stringify!($next))*)
    };
}

/// Where a method is described.
macro_rules! see {
    ($module:ident::$type:ident::$name:ident) => {
        concat!("See [`", path!($type::$name), "`](crate::api::", path!($module::$type::$name), ").")
    };
}

/// Where a type is described.
macro_rules! twin_of {
    ($module:ident::$type:ident) => {
        concat!("The blocking twin of [`", stringify!($type), "`](crate::api::", path!($module::$type), ").")
    };
}

/// A type with an asynchronous twin, and its methods.
macro_rules! twin {
    ($(#[$meta:meta])* $module:ident::$type:ident {
        $($kind:ident $name:ident $([$($generics:tt)*])? ($($arg:ident: $arg_type:ty),* $(,)?) -> $out:ty;)*
    }) => {
        $(#[$meta])*
        ///
        #[doc = twin_of!($module::$type)]
        #[derive(Clone, Debug)]
        pub struct $type {
            pub(super) inner: $module::$type,
        }

        impl From<$module::$type> for $type {
            fn from(inner: $module::$type) -> Self {
                Self { inner }
            }
        }

        impl $type {
            $(method!($kind $module::$type::$name [$($($generics)*)?] ($($arg: $arg_type),*) -> $out);)*
        }
    };
}

/// The two handles of a primitive: one row is a method of both, with the run as its first argument and without.
macro_rules! primitive {
    ($(#[$meta:meta])* $module:ident::$store:ident, $(#[$run_meta:meta])* $run:ident {
        $($kind:ident $name:ident $([$($generics:tt)*])? ($($arg:ident: $arg_type:ty),* $(,)?) -> $out:ty;)*
    }) => {
        twin! {
            $(#[$run_meta])*
            $module::$run {
                $($kind $name $([$($generics)*])? ($($arg: $arg_type),*) -> $out;)*
            }
        }
        twin! {
            $(#[$meta])*
            $module::$store {
                $($kind $name $([$($generics)*])? (run: impl Borrow<RunId>, $($arg: $arg_type),*) -> $out;)*
            }
        }
        store!($module::$store);
    };
}

/// A handle to a primitive is made of a database.
macro_rules! store {
    ($module:ident::$store:ident) => {
        impl $store {
            #[doc = see!($module::$store::new)]
            pub fn new(database: impl Into<Database>) -> Self {
                $module::$store::new(database.into().inner).into()
            }
        }
    };
}

/// One method, by the kind of its row.
macro_rules! method {
    (waits $module:ident::$type:ident::$name:ident [$($generics:tt)*] ($($arg:ident: $arg_type:ty),*) -> $out:ty) => {
        #[doc = see!($module::$type::$name)]
        ///
        /// # Errors
        /// The same, and `InvalidOperation` on a thread that runs a shard.
        pub fn $name<$($generics)*>(&self, $($arg: $arg_type),*) -> Result<$out> {
            wait(self.inner.$name($($arg),*)).map(Into::into)
        }
    };
    (gives $module:ident::$type:ident::$name:ident [$($generics:tt)*] ($($arg:ident: $arg_type:ty),*) -> $out:ty) => {
        #[doc = see!($module::$type::$name)]
        #[must_use = "it does nothing but give this"]
        pub fn $name<$($generics)*>(&self, $($arg: $arg_type),*) -> $out {
            self.inner.$name($($arg),*).into()
        }
    };
    (with $module:ident::$type:ident::$name:ident [] ($($arg:ident: $arg_type:ty),*) -> $out:ty) => {
        #[doc = see!($module::$type::$name)]
        pub fn $name(self, $($arg: $arg_type),*) -> $out {
            self.inner.$name($($arg),*).into()
        }
    };
}
