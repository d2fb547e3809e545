// Paillier's arithmetic in batches: the public face of the residue kernel.
//
// Numbers are little-endian 64-bit words; a ciphertext has `square_words` of them. Results are the smallest
// representatives, the same on every path. Functions that return int give 0, or -1 where there is no memory.
// Nothing is kept of arguments after a call, but rings by what is made of them.
//
// Secret are all numbers but lengths, moduli of public keys and counts. No branch depends on a secret. Addresses do
// in `wk_power_sum`, `wk_bin_sums`, `wk_table_powers` and `wk_owner_encrypt` (docs/paillier.md).

#ifndef WK_RESIDUES_H
#define WK_RESIDUES_H

#include <stddef.h>
#include <stdint.h>

typedef struct wk_ring wk_ring;
typedef struct wk_table wk_table;
typedef struct wk_owner wk_owner;

// log2 R for a modulus of this many bits on the present path; 0 for one too long.
size_t wk_ring_bits(size_t bits);

// Arithmetic mod n^2 on the present path. `powers`: R^1 .. R^5 mod n^2, each as a pair of two times `words` words, the
// remainder mod n and then the quotient. `above`: the smallest multiple of n that is at least R, `above_words` words.
// NULL without memory.
wk_ring *wk_ring_new(const uint64_t *n, size_t words, size_t square_words, const uint64_t *powers,
                     const uint64_t *above, size_t above_words);
void wk_ring_free(wk_ring *ring);

// Bits of a limb of this ring, B = 2^(limb bits).
size_t wk_ring_limb_bits(const wk_ring *ring);

// Prepare `wk_multiply_two`: `square` is n^2, `reciprocal` is floor(B^(2 L + shift) / n^2) with B^shift the largest power
// of B that is at most n^2; `words` words each.
int wk_ring_prepare(wk_ring *ring, const uint64_t *square, const uint64_t *reciprocal, size_t words, size_t shift);

// Whether the ring's path has use for what follows. Then `wk_multiply_two` folds (residues_fold.c, with n^2, M, C, B, `at`,
// `cut` and the head as named there and in residues_ring.h): `constants` are C, -M mod B^(2 L), -2 B^(at - 2) mod n^2,
// n^2 and floor(B^(cut + L) / M), `words` words each.
int wk_ring_folds(const wk_ring *ring);
int wk_ring_prepare_fold(wk_ring *ring, const uint64_t *constants, size_t words, size_t at, size_t cut,
                         size_t head_shift, uint64_t head_reciprocal);

// Powers of fixed bases (mod n^2, `square_words` each): for each of `count` bases one table of 2^window powers for each
// of `windows` digits. With `inverses` (of the bases) the tables serve an owner, without them `wk_table_powers`.
wk_table *wk_table_new(const wk_ring *ring, const uint64_t *bases, const uint64_t *inverses, size_t count,
                       size_t windows, size_t window);
void wk_table_free(wk_table *table);

// out_i = factor_i prod_k base_k^exponent_ik: exponents as little-endian bytes, all windows of all bases one after the
// other, `exponent_bytes` for each of `count` results.
int wk_table_powers(const wk_table *table, uint64_t *out, const uint64_t *factors, const uint8_t *exponents,
                    size_t exponent_bytes, size_t count);

// Encryption under an own key. `joints`: -u R, -u R^2, u R, q u R mod q^2 as pairs, u = 1/p^2 mod q^2; `p_square`:
// `p_square_words` words. Both rings were made for primes of one length in limbs.
wk_owner *wk_owner_new(const wk_ring *p, const wk_table *at_p, const wk_ring *q, const wk_table *at_q,
                       const uint64_t *joints, const uint64_t *p_square, size_t p_square_words);
void wk_owner_free(wk_owner *owner);

// Ciphertexts: the residues of these exponents, with plaintexts given as v q R_p mod p and v p R_q mod q (`words` words).
int wk_owner_encrypt(const wk_owner *owner, uint64_t *out, size_t out_words, const uint8_t *exponents_p,
                     size_t bytes_p, const uint8_t *exponents_q, size_t bytes_q, const uint64_t *plain_p,
                     const uint64_t *plain_q, size_t count);

// out_i = in_i^exponent mod n^2, for one exponent of `bits` bits. Inputs have `in_words` words, at most 4 log2(R) bits.
int wk_power(const wk_ring *ring, uint64_t *out, const uint64_t *in, size_t in_words, size_t count,
             const uint64_t *exponent, size_t exponent_words, size_t bits);

// out_i = prod_k in_(k count + i) over `terms` vectors one after the other.
int wk_multiply(const wk_ring *ring, uint64_t *out, const uint64_t *in, size_t terms, size_t count);

// out_i = left_i right_i, in a ring that was prepared for it.
int wk_multiply_two(const wk_ring *ring, uint64_t *out, const uint64_t *left, const uint64_t *right, size_t count);

// out_i = in_i (1 + plain_i n), plain_i below n, `words` words each.
int wk_add_plain(const wk_ring *ring, uint64_t *out, const uint64_t *in, const uint64_t *plain, size_t count);

// out_i = factor_i prod_k in_ik^e_ik for `count` rows of `terms` terms, `factors` may be NULL: Straus, `group` bases in
// one table, `window` bits of each at a time; exponents have `bits` bits.
int wk_power_rows(const wk_ring *ring, uint64_t *out, const uint64_t *in, const uint64_t *factors,
                  const uint64_t *exponents, size_t count, size_t terms, size_t bits, size_t group, size_t window);

// out_j = prod_i in_ij^e_i for each column j: Pippenger. Each window of each column of each of `segments` row ranges
// has buckets of its own.
int wk_power_sum(const wk_ring *ring, uint64_t *out, const uint64_t *in, size_t rows, size_t columns,
                 const uint64_t *exponents, size_t exponent_words, size_t bits, size_t window, size_t segments);

// out_j = prod_i in_(j step + i)^(2^(slot i)), the last block maybe shorter: Horner.
int wk_pack_rows(const wk_ring *ring, uint64_t *out, const uint64_t *in, size_t count, size_t slot, size_t step);

// out[column][bin] = product of the in_i with bins[i][column] = bin; 1 for an empty bin.
int wk_bin_sums(const wk_ring *ring, uint64_t *out, const uint64_t *in, const uint32_t *bins, size_t rows,
                size_t columns, size_t count);

// out = R^k prod_i in_i mod n, k public: zero or with a factor of n exactly if one of them is. `words` words.
int wk_common_factor(const wk_ring *ring, uint64_t *out, const uint64_t *in, size_t count);

#endif
