//! The settings of a node: the documented default file is the default; unknown keys are errors.
