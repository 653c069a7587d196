//! squall-agent
