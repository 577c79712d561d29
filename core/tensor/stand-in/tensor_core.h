// The warp-wide matrix instructions, by the fragment layouts of the PTX ISA (section "Matrix fragments for
// mma.m16n8k16 with floating point types" and "ldmatrix"). All 32 lanes have to call them.
#pragma once

#include "abi.h"
#include "half.h"

namespace stand_in {

// One lane's registers: with g = lane / 4 and t = lane % 4,
//   a[r]  rows g + 8 (r % 2),     columns 2 t + 8 (r / 2) and the next, the first in the low half
//   b[r]  rows 2 t + 8 r and the next, column g
//   d[r]  row  g + 8 (r / 2),     column  2 t + r % 2
struct Fragments {
    float* d;
    const unsigned* a;
    const unsigned* b;
};

template <float (*ToFloat)(unsigned short)>
void multiply(const Slot* slots) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < WARP; lane++) {
        auto own = static_cast<const Fragments*>(slots[lane].pointer);
        int g = lane / 4, t = lane % 4;
        for (int half = 0; half < 2; half++) {
            for (int r = 0; r < 4; r++)
                a[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + half] =
                    ToFloat(static_cast<unsigned short>(own->a[r] >> 16 * half));
            for (int r = 0; r < 2; r++)
                b[2 * t + 8 * r + half][g] = ToFloat(static_cast<unsigned short>(own->b[r] >> 16 * half));
        }
    }
    for (int lane = 0; lane < WARP; lane++) {
        auto own = static_cast<const Fragments*>(slots[lane].pointer);
        for (int r = 0; r < 4; r++) {
            int row = lane / 4 + 8 * (r / 2), column = 2 * (lane % 4) + r % 2;
            float sum = 0;
            for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][column];
            own->d[r] += sum;
        }
    }
}

// What a lane hands in for `ldmatrix`: lane 8 i + r names row r of the i-th of four 8 x 8 matrices, and gets
// of each of them the elements (l / 4, 2 (l % 4)) and the next, or, transposed, (2 (l % 4), l / 4) and the
// one below.
struct Rows {
    unsigned* registers;
    const void* row;
};

template <bool Transposed>
void load_matrices(const Slot* slots) {
    for (int l = 0; l < WARP; l++)
        for (int matrix = 0; matrix < 4; matrix++) {
            unsigned pair = 0;
            for (int i = 0; i < 2; i++) {
                int row = Transposed ? 2 * (l % 4) + i : l / 4, column = Transposed ? l / 4 : 2 * (l % 4) + i;
                const void* start = static_cast<const Rows*>(slots[8 * matrix + row].pointer)->row;
                if (reinterpret_cast<unsigned long>(start) % 16) __builtin_trap();
                pair |= static_cast<unsigned>(static_cast<const unsigned short*>(start)[column]) << 16 * i;
            }
            static_cast<Rows*>(slots[l].pointer)->registers[matrix] = pair;
        }
}

inline void together(void* own, const char* what, const char* file, int line, void (*last)(const Slot*)) {
    Slot slot;
    slot.pointer = own;
    exchange(slot, ~0u, {what, file, line}, last);
}

}  // namespace stand_in

// d += a b; bf16 operands, products and sum in f32.
inline void host_mma_bf16_16x8x16(float d[4], const unsigned a[4], const unsigned b[2], STAND_IN_PLACE) {
    stand_in::Fragments own{d, a, b};
    stand_in::together(&own, "mma bf16", file, line, stand_in::multiply<host_bf16_to_float>);
}

// The same with f16 operands.
inline void host_mma_f16_16x8x16(float d[4], const unsigned a[4], const unsigned b[2], STAND_IN_PLACE) {
    stand_in::Fragments own{d, a, b};
    stand_in::together(&own, "mma f16", file, line, stand_in::multiply<host_f16_to_float>);
}

inline void host_ldmatrix_x4(unsigned registers[4], const void* row, STAND_IN_PLACE) {
    stand_in::Rows own{registers, row};
    stand_in::together(&own, "ldmatrix", file, line, stand_in::load_matrices<false>);
}

inline void host_ldmatrix_x4_trans(unsigned registers[4], const void* row, STAND_IN_PLACE) {
    stand_in::Rows own{registers, row};
    stand_in::together(&own, "ldmatrix.trans", file, line, stand_in::load_matrices<true>);
}
