import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { IdxError, parseIdx, readIdx } from '../../ts/data/idx.ts';

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const small = bytes(0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6);

function failure(run: () => unknown): IdxError {
  try {
    run();
  } catch (error) {
    if (error instanceof IdxError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('parseIdx', () => {
  test('reads every element type, big-endian', () => {
    const cases: [number, number[], number[], string][] = [
      [0x08, [200, 1], [200, 1], 'Uint8Array'],
      [0x09, [200, 1], [-56, 1], 'Int8Array'],
      [0x0b, [0xff, 0xfe, 1, 2], [-2, 258], 'Int16Array'],
      [0x0c, [0xff, 0xff, 0xff, 0xfd, 0, 1, 0, 0], [-3, 65536], 'Int32Array'],
      [0x0d, [0x3f, 0x80, 0, 0, 0xc0, 0x20, 0, 0], [1, -2.5], 'Float32Array'],
      [0x0e, [0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xc0, 4, 0, 0, 0, 0, 0, 0], [1, -2.5], 'Float64Array'],
    ];
    for (const [type, content, expected, kind] of cases) {
      const { shape, data } = parseIdx(bytes(0, 0, type, 1, 0, 0, 0, 2, ...content));
      expect(shape).toEqual([2]);
      expect(Array.from(data)).toEqual(expected);
      expect(data.constructor.name).toBe(kind);
    }
  });

  test('reads several axes, none, and an empty one', () => {
    expect(parseIdx(small)).toEqual({ shape: [2, 3], data: bytes(1, 2, 3, 4, 5, 6) });
    expect(parseIdx(bytes(0, 0, 8, 0, 9))).toEqual({ shape: [], data: bytes(9) });
    expect(parseIdx(bytes(0, 0, 8, 1, 0, 0, 0, 0))).toEqual({ shape: [0], data: bytes() });
  });

  test('reads from the middle of a larger buffer and copies', () => {
    const large = bytes(9, 9, 9, ...small, 9);
    const { data } = parseIdx(large.subarray(3, 3 + small.length));
    large.fill(0);
    expect(Array.from(data)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test('says where a file ends too early', () => {
    const error = failure(() => parseIdx(small.subarray(0, 15), 'train-images'));
    expect(error.message).toBe(
      'train-images: truncated at byte 15: the header (2 x 3) promises 6 bytes from byte 12 on, the file has 3',
    );
    expect(error.offset).toBe(15);
    expect(failure(() => parseIdx(small.subarray(0, 3))).message).toBe(
      'parseIdx: truncated at byte 3, the magic number takes 4 bytes',
    );
    expect(failure(() => parseIdx(small.subarray(0, 9))).message).toBe(
      'parseIdx: truncated at byte 9, the sizes of 2 axes end at byte 12',
    );
  });

  test('says where trailing bytes begin', () => {
    const error = failure(() => parseIdx(bytes(...small, 0, 0)));
    expect(error.message).toBe(
      'parseIdx: 2 trailing bytes at byte 18: the header (2 x 3) promises 6 bytes from byte 12 on, the file has 8',
    );
    expect(error.offset).toBe(18);
  });

  test('refuses other files and impossible sizes', () => {
    expect(failure(() => parseIdx(bytes(0x89, 0x50, 0x4e, 0x47, 1))).message).toBe(
      'parseIdx: bad magic number 0x89504e47 at byte 0, expected 0x0000TTRR with type TT 08..0e',
    );
    expect(failure(() => parseIdx(bytes(0, 0, 7, 0))).message).toContain('0x00000700');
    const huge = failure(() => parseIdx(bytes(0, 0, 8, 3, ...Array<number>(12).fill(255))));
    expect(huge.message).toBe('parseIdx: sizes 4294967295 x 4294967295 x 4294967295 at byte 4 overflow');
    expect(huge.offset).toBe(4);
  });
});

describe('readIdx', () => {
  test('reads plain and compressed bytes alike', async () => {
    expect(await readIdx(small)).toEqual(parseIdx(small));
    expect(await readIdx(gzipSync(small))).toEqual(parseIdx(small));
  });

  test('names damaged compressed bytes', async () => {
    const packed = new Uint8Array(gzipSync(small));
    await expect(readIdx(packed.subarray(0, packed.length - 9), 'a.gz')).rejects.toThrow(
      `a.gz: the gzip data (${packed.length - 9} bytes) is damaged or incomplete: `,
    );
    packed[12] = (packed[12] as number) ^ 0xff;
    await expect(readIdx(packed, 'b.gz')).rejects.toThrow(IdxError);
  });
});
