//! squall-coordinator
