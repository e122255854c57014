//! One installation of the vendor's software.
