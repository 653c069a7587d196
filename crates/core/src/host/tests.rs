//! Small histories of one host.
