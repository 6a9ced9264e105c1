//! Object storage: conditional reads and listing over OpenDAL.
