/// A problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem;
