//! squall-journal
