//! Small histories of the registry.
