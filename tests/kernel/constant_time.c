// Calls every public function of the kernel with its secrets marked as undefined: memcheck reports a branch or an
// address that depends on one. Portable path, because valgrind knows no AVX-512; numbers of tests/kernel/timing.py.
// The method: A. Langley, "Checking that functions are constant time with Valgrind", 2010.
//
// With an argument it does what must be reported, so that a silent memcheck can be told from one that does not look.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "dispatch.h"
#include "numbers.h"
#include "residues.h"
#include "residues_ring.h"
#include "x25519.h"

enum { TERMS = 5, BITS = 16, SUM_BITS = 70, SUM_WORDS = 2, BINS = 4 };

#define WORDS_OF(array) (sizeof(array) / sizeof((array)[0]))

// An address that residues.h names: which one it is may be seen, and nothing else of the secret.
size_t wk_index(size_t index) {
    (void)VALGRIND_MAKE_MEM_DEFINED(&index, sizeof index);
    return index;
}

static void *taken(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (memory == NULL) abort();
    return memory;
}

// A copy that nothing may depend on.
static uint64_t *secret(const uint64_t *numbers, size_t words) {
    uint64_t *copy = taken(8 * words);
    memcpy(copy, numbers, 8 * words);
    (void)VALGRIND_MAKE_MEM_UNDEFINED(copy, 8 * words);
    return copy;
}

// `count` ciphertexts, those of numbers.h over and over, as a secret.
static uint64_t *ciphertexts(size_t count) {
    uint64_t *copy = taken(8 * count * SQUARE_WORDS);
    for (size_t i = 0; i < count * SQUARE_WORDS; i++) copy[i] = VECTOR[i % WORDS_OF(VECTOR)];
    (void)VALGRIND_MAKE_MEM_UNDEFINED(copy, 8 * count * SQUARE_WORDS);
    return copy;
}

static uint64_t *small(size_t count, unsigned bits) {
    uint64_t *numbers = taken(8 * count);
    for (size_t i = 0; i < count; i++) numbers[i] = (0x9e3779b97f4a7c15u * (i + 1)) >> (64 - bits);
    return numbers;
}

static uint8_t *bytes(size_t count) {
    uint8_t *numbers = taken(count);
    for (size_t i = 0; i < count; i++) numbers[i] = (uint8_t)(167 * i + 13);
    (void)VALGRIND_MAKE_MEM_UNDEFINED(numbers, count);
    return numbers;
}

static const char *entry = "";

// A status is public: memcheck would report this branch if a secret were in it.
static void done(int status) {
    if (status != 0) {
        fprintf(stderr, "%s failed\n", entry);
        exit(2);
    }
    printf("%s\n", entry);
}

static void have(const void *pointer) { done(pointer == NULL ? -1 : 0); }

static wk_ring *secret_ring(const uint64_t *n, size_t words, const uint64_t *powers, size_t power_words,
                            const uint64_t *above, size_t above_words) {
    uint64_t *hidden[] = {secret(n, words), secret(powers, power_words), secret(above, above_words)};
    // The length of a prime is public: that its highest bit is set may be known, and nothing else.
    uint8_t all_but_the_highest = 0x7f;
    (void)VALGRIND_SET_VBITS((uint8_t *)(hidden[0] + words) - 1, &all_but_the_highest, 1);
    entry = "wk_ring_new (owner)";
    wk_ring *ring = wk_ring_new(hidden[0], words, SQUARE_WORDS, hidden[1], hidden[2], above_words);
    have(ring);
    for (size_t i = 0; i < WORDS_OF(hidden); i++) free(hidden[i]);
    return ring;
}

// Operations on somebody else's ciphertexts: the modulus is public.
static void guest(void) {
    entry = "wk_ring_new";
    wk_ring *ring = wk_ring_new(N, WORDS_OF(N), SQUARE_WORDS, N_POWERS, N_ABOVE, WORDS_OF(N_ABOVE));
    have(ring);
    uint64_t *in = ciphertexts(COUNT * TERMS), *out = taken(8 * COUNT * TERMS * SQUARE_WORDS);
    uint64_t *plain = secret(N_PLAIN, WORDS_OF(N_PLAIN));

    entry = "wk_multiply";
    done(wk_multiply(ring, out, in, 2, COUNT));
    done(wk_multiply(ring, out, in, TERMS, COUNT));
    entry = "wk_ring_limb_bits, wk_ring_prepare";
    done(wk_ring_limb_bits(ring) == 0 || wk_ring_prepare(ring, SQUARE, RECIPROCAL, WIDE, SHIFT));
    entry = "wk_ring_folds, wk_ring_prepare_fold";
    done(wk_ring_folds(ring) || wk_ring_prepare_fold(ring, SQUARE, WIDE, 0, 0, 0, 0));
    entry = "wk_multiply_two";
    done(wk_multiply_two(ring, out, in, in + COUNT * SQUARE_WORDS, COUNT));
    entry = "wk_add_plain";
    done(wk_add_plain(ring, out, in, plain, COUNT));
    entry = "wk_pack_rows";
    done(wk_pack_rows(ring, out, in, COUNT, 24, 3));
    entry = "wk_common_factor";
    done(wk_common_factor(ring, out, in, COUNT));

    uint64_t *exponents = small(COUNT * TERMS, BITS);
    (void)VALGRIND_MAKE_MEM_UNDEFINED(exponents, 8 * COUNT * TERMS);
    entry = "wk_power_rows";
    done(wk_power_rows(ring, out, in, in, exponents, COUNT, TERMS, BITS, 2, 2));
    done(wk_power_rows(ring, out, in, NULL, exponents, COUNT, TERMS, BITS, 1, 4));

    // Addresses depend on these exponents and bins, on purpose (residues.h, wk_index); branches do not.
    uint64_t *raised = small(COUNT * SUM_WORDS, SUM_BITS - 64);
    (void)VALGRIND_MAKE_MEM_UNDEFINED(raised, 8 * COUNT * SUM_WORDS);
    entry = "wk_power_sum (addresses open)";
    done(wk_power_sum(ring, out, in, COUNT, TERMS, raised, SUM_WORDS, SUM_BITS, 4, 2));
    uint32_t *bins = taken(4 * COUNT * TERMS);
    for (size_t i = 0; i < COUNT * TERMS; i++) bins[i] = (uint32_t)(7 * i % BINS);
    (void)VALGRIND_MAKE_MEM_UNDEFINED(bins, 4 * COUNT * TERMS);
    uint64_t *sums = taken(8 * TERMS * BINS * SQUARE_WORDS);
    entry = "wk_bin_sums (addresses open)";
    done(wk_bin_sums(ring, sums, in, bins, COUNT, TERMS, BINS));

    const size_t windows = 4, width = 8, bases = 3;
    uint8_t *digits = bytes(COUNT * bases * windows);
    entry = "wk_table_new";
    wk_table *table = wk_table_new(ring, in, NULL, bases, windows, width);
    have(table);
    entry = "wk_table_powers (addresses open)";
    done(wk_table_powers(table, out, in, digits, bases * windows, COUNT));
    wk_table_free(table);
    free(digits), free(sums), free(bins), free(raised), free(exponents), free(plain), free(out), free(in);
    wk_ring_free(ring);
}

static wk_table *secret_table(const wk_ring *ring, const uint64_t *bases, const uint64_t *inverses) {
    uint64_t *hidden[] = {secret(bases, SQUARE_WORDS), secret(inverses, SQUARE_WORDS)};
    entry = "wk_table_new (owner)";
    wk_table *table = wk_table_new(ring, hidden[0], hidden[1], 1, 4, 8);
    have(table);
    free(hidden[0]), free(hidden[1]);
    return table;
}

// Operations with the private key: the primes are secret too.
static void owner(void) {
    wk_ring *p = secret_ring(P, WORDS_OF(P), P_POWERS, WORDS_OF(P_POWERS), P_ABOVE, WORDS_OF(P_ABOVE));
    wk_ring *q = secret_ring(Q, WORDS_OF(Q), Q_POWERS, WORDS_OF(Q_POWERS), Q_ABOVE, WORDS_OF(Q_ABOVE));
    uint64_t *in = ciphertexts(COUNT), *out = taken(8 * COUNT * SQUARE_WORDS);
    uint64_t *exponent = secret(P_LESS_ONE, WORDS_OF(P_LESS_ONE));
    entry = "wk_power";
    done(wk_power(p, out, in, SQUARE_WORDS, COUNT, exponent, WORDS_OF(P_LESS_ONE), P_BITS));

    wk_table *at_p = secret_table(p, P_BASE, P_INVERSE), *at_q = secret_table(q, Q_BASE, Q_INVERSE);
    uint64_t *joints = secret(JOINTS, WORDS_OF(JOINTS)), *square = secret(P_SQUARE, WORDS_OF(P_SQUARE));
    entry = "wk_owner_new";
    wk_owner *key = wk_owner_new(p, at_p, q, at_q, joints, square, WORDS_OF(P_SQUARE));
    have(key);
    uint64_t *plain = secret(P_PLAIN, WORDS_OF(P_PLAIN)), *other = secret(Q_PLAIN, WORDS_OF(Q_PLAIN));
    uint8_t *digits = bytes(COUNT * 4);
    entry = "wk_owner_encrypt (addresses open)";
    done(wk_owner_encrypt(key, out, SQUARE_WORDS, digits, 4, digits, 4, plain, other, COUNT));
    wk_owner_free(key);
    wk_table_free(at_p), wk_table_free(at_q);
    free(digits), free(plain), free(other), free(square), free(joints), free(exponent), free(out), free(in);
    wk_ring_free(p), wk_ring_free(q);
}

// The curve: any 32 bytes are a scalar, a point and, below 2^255, an element.
static void curve(void) {
    uint8_t *numbers = bytes(32 * COUNT), *scalar = bytes(32), *out = taken(32 * COUNT);
    for (size_t i = 0; i < COUNT; i++) numbers[32 * i + 31] &= 0x7f;
    (void)VALGRIND_MAKE_MEM_UNDEFINED(numbers, 32 * COUNT);
    (void)VALGRIND_MAKE_MEM_UNDEFINED(scalar, 32);
    entry = "wk_x25519_many";
    wk_x25519_many(out, numbers, COUNT, scalar);
    done(0);
    entry = "wk_elligator2_many";
    wk_elligator2_many(out, numbers, COUNT);
    done(0);
    free(numbers), free(scalar), free(out);
}

static void dispatch(void) {
    entry = "wk_path_supported, wk_path_set, wk_path_get, wk_ring_bits";
    done(!wk_path_supported(WK_PORTABLE) || wk_path_set(WK_PORTABLE) || wk_path_get() != WK_PORTABLE ||
         wk_ring_bits(N_BITS) == 0);
}

int main(int count, char **arguments) {
    (void)arguments;
    dispatch();
    if (count > 1) {
        uint64_t *number = secret(N, 1);
        entry = "a branch on a secret";
        done(*number == 0);
        free(number);
        return 0;
    }
    guest();
    owner();
    curve();
    return 0;
}
