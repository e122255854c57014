//! What a token will say, decided before it is recorded and signed.
