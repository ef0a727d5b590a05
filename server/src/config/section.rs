//! One declaration for each setting: its field and type, its default, the environment variables and
//! the flag that set it, and what it does. The typed sections, the reading of all layers, `tensorpow
//! config show` and the table in `docs/configuration.md` all come from these declarations.

/// Everything about a setting but its Rust type.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `table.name` in the file.
    pub key: &'static str,
    /// Value when nobody sets it.
    pub default: &'static str,
    /// Environment variables; the first that is set and not empty counts.
    pub env: &'static [&'static str],
    /// Flag without its dashes.
    pub flag: Option<&'static str>,
    /// What a value looks like.
    pub form: &'static str,
    /// Never shown.
    pub secret: bool,
    /// What it does.
    pub about: &'static str,
}

impl Setting {
    /// Name of the value in `--help`.
    #[must_use]
    pub fn value_name(&self) -> String {
        let name = self.key.rsplit('.').next().unwrap_or(self.key);
        name.to_ascii_uppercase()
    }
}

/// Declares sections: a struct of typed fields each, with its settings.
macro_rules! sections {
    ($(
        $(#[doc = $section_about:literal])+
        $name:ident $table:literal {
            $(
                $(#[doc = $about:literal])+
                $field:ident: $type:ty = $default:literal [$($env:ident),*] $(--$($flag:ident)-+)?;
            )+
        }
    )+) => {
        $(
            $(#[doc = $section_about])+
            #[derive(Debug, Clone)]
            pub struct $name {
                $($(#[doc = $about])+ pub $field: $type,)+
            }

            impl $name {
                pub(in crate::config) const SETTINGS: &'static [$crate::config::section::Setting] = &[$(
                    $crate::config::section::Setting {
                        key: concat!($table, ".", stringify!($field)),
                        default: $default,
                        env: &[$(stringify!($env)),*],
                        flag: $crate::config::section::sections!(@flag $($($flag)-+)?),
                        form: <$type as $crate::config::value::SettingValue>::FORM,
                        secret: <$type as $crate::config::value::SettingValue>::SECRET,
                        about: concat!($($about),+),
                    },
                )+];

                /// `None` when a value has been reported as unusable.
                pub(in crate::config) fn read(
                    values: &mut $crate::config::layers::Values,
                ) -> Option<Self> {
                    // Every field is read, so that every problem is reported.
                    $(let $field = values.take(concat!($table, ".", stringify!($field)));)+
                    Some(Self { $($field: $field?,)+ })
                }
            }
        )+
    };
    (@flag) => { None };
    (@flag $first:ident $(- $rest:ident)*) => {
        Some(concat!(stringify!($first) $(, "-", stringify!($rest))*))
    };
}

pub(crate) use sections;
