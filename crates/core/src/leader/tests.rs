//! Small histories of a leader.
