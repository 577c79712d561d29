// The two 16-bit formats and TF32, as the hardware converts them: to the nearest, ties to even, NaN to 0x7FFF
// (PTX ISA, `cvt`). Used by kernels and by cublasLt; includes nothing.
#pragma once

namespace stand_in {

inline unsigned float_bits(float value) {
    unsigned bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of_bits(unsigned bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace stand_in

inline unsigned short host_bf16_from_float(float value) {
    unsigned bits = stand_in::float_bits(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;
    return static_cast<unsigned short>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline float host_bf16_to_float(unsigned short value) {
    return stand_in::float_of_bits(static_cast<unsigned>(value) << 16);
}

inline unsigned short host_f16_from_float(float value) {
    unsigned bits = stand_in::float_bits(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return 0x7FFF;
    if (magnitude >= 0x477FF000)
        return static_cast<unsigned short>(sign | 0x7C00);  // 65520 rounds to infinity
    if (magnitude < 0x38800000) {
        // Below 2^-14: one half has the spacing of the denormals, so that the addition rounds to it.
        float shifted = stand_in::float_of_bits(magnitude) + 0.5f;
        return static_cast<unsigned short>(sign | (stand_in::float_bits(shifted) - 0x3F000000));
    }
    unsigned rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
    return static_cast<unsigned short>(sign | (rounded - 0x38000000) >> 13);
}

inline float host_f16_to_float(unsigned short value) {
    unsigned sign = (value & 0x8000u) << 16, exponent = value >> 10 & 0x1F, fraction = value & 0x3FFu;
    if (exponent == 0x1F) return stand_in::float_of_bits(sign | 0x7F800000 | fraction << 13);
    if (exponent != 0) return stand_in::float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

// TF32 keeps ten bits of the fraction; `cvt.rna.tf32` rounds ties away from zero.
inline float host_tf32_from_float(float value) {
    unsigned bits = stand_in::float_bits(value);
    if ((bits & 0x7F800000) == 0x7F800000) return value;
    return stand_in::float_of_bits((bits + 0x1000) & ~0x1FFFu);
}
