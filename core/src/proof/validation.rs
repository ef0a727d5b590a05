//! The two messages of the verification link: a block or a model to judge, and the verdict.
//! spec: proof-encoding §5.3, §5.4

use super::flat::{Encode, Field, Fields, FlatError, Out, WriteError, WriteTable, read_root};
use super::record::ProofRef;

/// Union tag of a block.
const BLOCK: u8 = 1;
/// Union tag of a model.
const MODEL: u8 = 2;

/// Defines a one-byte code of the protocol with its names.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($code:literal $variant:ident $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = concat!("`", $label, "`")] $variant = $code,)*
        }

        impl $name {
            /// The code's meaning; none for a code nobody defined.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The code on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// The name the protocol gives it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

codes! {
    /// What a verifier is asked to do. spec: proof-encoding §5.3
    ValidationType {
        0 Quick "Quick",
        1 QuickSmell "Quick_Smell",
        2 Full "Full",
        3 Model "Model",
        4 Challenge "Challenge",
        5 Logits "Logits",
    }
}

codes! {
    /// What a verifier answers. The node knows the codes up to 13. spec: proof-encoding §5.4
    ValidationVerdict {
        0 QuickOk "Quick_OK",
        1 QuickFail "Quick_Fail",
        2 QuickOkSmellOk "Quick_OK_Smell_OK",
        3 QuickOkSmellFail "Quick_OK_Smell_Fail",
        4 QuickFailSmellOk "Quick_Fail_Smell_OK",
        5 QuickFailSmellFail "Quick_Fail_Smell_Fail",
        6 FullGreen "Full_Green",
        7 FullAmber "Full_Amber",
        8 FullRed "Full_Red",
        9 ModelOk "Model_OK",
        10 ModelFail "Model_Fail",
        11 ChallengeOk "Challenge_OK",
        12 ChallengeFail "Challenge_Fail",
        13 ModelPendingReview "Model_Pending_Review",
        14 LogitsOk "Logits_OK",
        15 LogitsFail "Logits_Fail",
    }
}

/// Something to judge (`ValidationRequest`). spec: proof-encoding §5.3
#[derive(Debug, Clone, Copy, Default)]
pub struct ValidationRequestRef<'a> {
    /// Key that the answer echoes: the block's long hash, internal order.
    pub hash_id: &'a [u8],
    /// Code of a [`ValidationType`]; unknown ones are kept.
    pub validation_type: u8,
    /// What to judge; none for an absent payload or an unknown kind.
    pub request: Option<RequestRef<'a>>,
}

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::large_enum_variant)] // borrowed and short-lived; boxing would need an allocator
pub enum RequestRef<'a> {
    /// A block with its proof.
    Block(BlockValidationRef<'a>),
    /// A model that was registered.
    Model(ModelValidationRef<'a>),
}

/// A block to judge (`BlockValidation`). spec: proof-encoding §5.3
#[derive(Debug, Clone, Copy, Default)]
pub struct BlockValidationRef<'a> {
    /// The header's version, two's complement.
    pub version: u32,
    /// Short hash, internal order.
    pub hash: &'a [u8],
    /// The parent's long hash, internal order.
    pub prev_block_hash: &'a [u8],
    /// Transaction merkle root, internal order.
    pub merkle_root: &'a [u8],
    /// Header time, UNIX seconds.
    pub timestamp: u32,
    /// Compact target before adjustment.
    pub bits: u32,
    /// Header nonce.
    pub nonce: u32,
    /// The proof's commitment.
    pub pow_blob_hash: &'a [u8],
    /// Compact target after adjustment.
    pub adjusted_bits: u32,
    /// The proof.
    pub pow_blob: Option<ProofRef<'a>>,
    /// Registered difficulty where version-3 rules are active, else 0: the verifier's only switch
    /// for them.
    pub difficulty: i64,
}

/// A model to judge (`ModelValidation`). spec: proof-encoding §5.3
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelValidationRef<'a> {
    /// Model name.
    pub model_name: &'a [u8],
    /// Commit of the model.
    pub model_commit: &'a [u8],
    /// Difficulty asked for.
    pub difficulty: i64,
    /// CID of the model's files.
    pub cid: &'a [u8],
    /// Free text.
    pub extra: &'a [u8],
    /// Registering transaction.
    pub txid: &'a [u8],
    /// Block of that transaction.
    pub block_hash: &'a [u8],
    /// Height of that block.
    pub block_height: i32,
}

impl<'a> ValidationRequestRef<'a> {
    /// Reads the message in place. spec: proof-encoding §7
    ///
    /// # Errors
    /// [`FlatError`] for bytes the node's verifier would refuse.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FlatError> {
        read_root(bytes, |fields| {
            Ok(Self {
                hash_id: fields.bytes()?,
                validation_type: fields.u8()?,
                request: RequestRef::read_union(fields)?,
            })
        })
    }
}

impl<'a> RequestRef<'a> {
    /// The tag and the table it announces. spec: proof-encoding §7 rule 9
    fn read_union(fields: &mut Fields<'a, '_>) -> Result<Option<Self>, FlatError> {
        match fields.u8()? {
            BLOCK => Ok(fields.table(BlockValidationRef::read_fields)?.map(Self::Block)),
            MODEL => Ok(fields.table(ModelValidationRef::read_fields)?.map(Self::Model)),
            _ => fields.unknown_table().map(|()| None),
        }
    }
}

impl<'a> BlockValidationRef<'a> {
    fn read_fields(fields: &mut Fields<'a, '_>) -> Result<Self, FlatError> {
        Ok(Self {
            version: fields.u32()?,
            hash: fields.bytes()?,
            prev_block_hash: fields.bytes()?,
            merkle_root: fields.bytes()?,
            timestamp: fields.u32()?,
            bits: fields.u32()?,
            nonce: fields.u32()?,
            pow_blob_hash: fields.bytes()?,
            adjusted_bits: fields.u32()?,
            pow_blob: fields.table(ProofRef::read_fields)?,
            difficulty: fields.i64()?,
        })
    }

    /// The reference verifier reads these without looking, and every row with the length of the
    /// first one. spec: proof-encoding §5.3
    fn check(&self) -> Result<(), WriteError> {
        if self.prev_block_hash.is_empty() {
            return Err(WriteError::Missing { field: "prev_block_hash" });
        }
        let proof = self.pow_blob.as_ref().ok_or(WriteError::Missing { field: "pow_blob" })?;
        proof.matrices().iter().try_for_each(|(field, rows)| match rows.first_ragged() {
            Some(row) => Err(WriteError::Ragged { field, row }),
            None => Ok(()),
        })
    }
}

impl<'a> ModelValidationRef<'a> {
    fn read_fields(fields: &mut Fields<'a, '_>) -> Result<Self, FlatError> {
        Ok(Self {
            model_name: fields.text()?,
            model_commit: fields.text()?,
            difficulty: fields.i64()?,
            cid: fields.text()?,
            extra: fields.text()?,
            txid: fields.bytes()?,
            block_hash: fields.bytes()?,
            block_height: fields.i32()?,
        })
    }
}

impl Encode for ValidationRequestRef<'_> {
    fn check(&self) -> Result<(), WriteError> {
        if self.hash_id.is_empty() {
            return Err(WriteError::Missing { field: "hash_id" });
        }
        match &self.request {
            Some(RequestRef::Block(block)) => block.check(),
            Some(RequestRef::Model(_)) | None => Ok(()),
        }
    }
}

impl WriteTable for ValidationRequestRef<'_> {
    fn write_table(&self, out: &mut Out<'_>) -> u64 {
        let (tag, payload) = match &self.request {
            Some(RequestRef::Block(block)) => (BLOCK, Field::Table(Some(block))),
            Some(RequestRef::Model(model)) => (MODEL, Field::Table(Some(model))),
            None => (0, Field::Table(None)),
        };
        out.table(&[
            Field::Bytes(self.hash_id),
            Field::Byte(self.validation_type),
            Field::Byte(tag),
            payload,
        ])
    }
}

impl WriteTable for BlockValidationRef<'_> {
    fn write_table(&self, out: &mut Out<'_>) -> u64 {
        out.table(&[
            Field::Word(self.version),
            Field::Bytes(self.hash),
            Field::Bytes(self.prev_block_hash),
            Field::Bytes(self.merkle_root),
            Field::Word(self.timestamp),
            Field::Word(self.bits),
            Field::Word(self.nonce),
            Field::Bytes(self.pow_blob_hash),
            Field::Word(self.adjusted_bits),
            Field::Table(self.pow_blob.as_ref().map(|proof| proof as &dyn WriteTable)),
            Field::Long(self.difficulty as u64),
        ])
    }
}

impl WriteTable for ModelValidationRef<'_> {
    fn write_table(&self, out: &mut Out<'_>) -> u64 {
        out.table(&[
            Field::Text(self.model_name),
            Field::Text(self.model_commit),
            Field::Long(self.difficulty as u64),
            Field::Text(self.cid),
            Field::Text(self.extra),
            Field::Bytes(self.txid),
            Field::Bytes(self.block_hash),
            Field::Word(self.block_height as u32),
        ])
    }
}

/// A verdict (`ValidationResponse`). spec: proof-encoding §5.4
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ValidationResponseRef<'a> {
    /// Echo of the request's `hash_id`.
    pub hash_identifier: &'a [u8],
    /// Code of a [`ValidationVerdict`]; unknown ones are kept.
    pub enum_response: u8,
}

impl<'a> ValidationResponseRef<'a> {
    /// Reads the message in place. spec: proof-encoding §7
    ///
    /// # Errors
    /// [`FlatError`] for bytes the node's verifier would refuse.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FlatError> {
        read_root(bytes, |fields| {
            Ok(Self { hash_identifier: fields.bytes()?, enum_response: fields.u8()? })
        })
    }
}

impl Encode for ValidationResponseRef<'_> {}

impl WriteTable for ValidationResponseRef<'_> {
    fn write_table(&self, out: &mut Out<'_>) -> u64 {
        out.table(&[Field::Bytes(self.hash_identifier), Field::Byte(self.enum_response)])
    }
}
