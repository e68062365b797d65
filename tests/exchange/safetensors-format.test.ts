import { describe, expect, test } from 'vitest';
import {
  parseSafetensors,
  type SafetensorsEntry,
  SafetensorsError,
  serializeSafetensors,
} from '../../ts/exchange/safetensors-format.ts';

/** A file from header text and data, written by hand as the format's page says. */
function fileOf(header: string, data: ArrayLike<number> = []): Uint8Array {
  const text = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setUint32(0, text.length, true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

function failure(bytes: Uint8Array): SafetensorsError {
  try {
    parseSafetensors(bytes);
  } catch (error) {
    if (error instanceof SafetensorsError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const tensorText = (begin: number, end: number, dtype = 'U8', shape = `[${end - begin}]`): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;

// Printed by the reference implementation (Python package safetensors 0.8.0):
//   save({"b.weight": arange(6, float32).reshape(2, 3), "a": [1, 2] int64, "h": [1.5, -2] float16,
//         "flag": [True, False], "i": [[5]] int32, "d": 0.1 float64, "é": zeros((0, 3))}, metadata={"format": "pt"})
const reference = Uint8Array.from(
  Buffer.from(
    'b8010000000000007b225f5f6d657461646174615f5f223a7b22666f726d6174223a227074227d2c2261223a7b226474797065223a22493634222c227368617065223a5b325d2c22646174615f6f666673657473223a5b302c31365d7d2c2264223a7b226474797065223a22463634222c227368617065223a5b5d2c22646174615f6f666673657473223a5b31362c32345d7d2c22622e776569676874223a7b226474797065223a22463332222c227368617065223a5b322c335d2c22646174615f6f666673657473223a5b32342c34385d7d2c22c3a9223a7b226474797065223a22463332222c227368617065223a5b302c335d2c22646174615f6f666673657473223a5b34382c34385d7d2c2269223a7b226474797065223a22493332222c227368617065223a5b312c315d2c22646174615f6f666673657473223a5b34382c35325d7d2c2268223a7b226474797065223a22463136222c227368617065223a5b325d2c22646174615f6f666673657473223a5b35322c35365d7d2c22666c6167223a7b226474797065223a22424f4f4c222c227368617065223a5b325d2c22646174615f6f666673657473223a5b35362c35385d7d7d20202020202020010000000000000002000000000000009a9999999999b93f000000000000803f0000004000004040000080400000a04005000000003e00c00100',
    'hex',
  ),
);

describe('against the reference implementation', () => {
  test('reads its file', () => {
    const { metadata, entries } = parseSafetensors(reference);
    expect(metadata).toEqual({ format: 'pt' });
    expect(Array.from(entries, ([name, { dtype, shape }]) => `${name} ${dtype} [${shape}]`)).toEqual([
      'a I64 [2]',
      'd F64 []',
      'b.weight F32 [2,3]',
      'é F32 [0,3]',
      'i I32 [1,1]',
      'h F16 [2]',
      'flag BOOL [2]',
    ]);
    expect(Array.from(entries.get('h')?.bytes ?? [])).toEqual([0x00, 0x3e, 0x00, 0xc0]);
  });

  test('writes the same bytes, whatever the order of the entries', () => {
    const { metadata, entries } = parseSafetensors(reference);
    expect(serializeSafetensors({ metadata, entries: new Map([...entries].reverse()) })).toEqual(reference);
  });
});

describe('serializeSafetensors', () => {
  const bytes = (length: number): SafetensorsEntry => ({
    dtype: 'U8',
    shape: [length],
    bytes: new Uint8Array(length).fill(7),
  });

  test('an empty file, names that need care, and aligned data', () => {
    expect(serializeSafetensors({ metadata: {}, entries: new Map() })).toEqual(fileOf('{}      '));
    const names = ['', '__proto__', 'a"\\\n', '10', '9'];
    const written = serializeSafetensors({
      metadata: { z: '1', a: '2' },
      entries: new Map(names.map((n, i) => [n, bytes(i)])),
    });
    const { metadata, entries } = parseSafetensors(written);
    expect([...entries.keys()].sort()).toEqual([...names].sort());
    for (const [i, name] of names.entries()) expect(entries.get(name)?.bytes).toHaveLength(i);
    expect(Object.keys(metadata)).toEqual(['a', 'z']);
    expect(new DataView(written.buffer).getUint32(0, true) % 8).toBe(0);
  });

  test('refuses bytes that do not fit and the reserved name', () => {
    expect(() =>
      serializeSafetensors({ metadata: {}, entries: new Map([['w', { ...bytes(3), shape: [4] }]]) }),
    ).toThrow("safetensors: 'w' has 3 bytes, U8 [4] takes 4");
    expect(() => serializeSafetensors({ metadata: {}, entries: new Map([['__metadata__', bytes(1)]]) })).toThrow(
      'safetensors: a tensor cannot be called __metadata__',
    );
  });
});

describe('parseSafetensors refuses', () => {
  test.each<[string, Uint8Array, string, number]>([
    ['a short file', Uint8Array.of(1, 2, 3), 'truncated at byte 3, the header length takes 8 bytes', 3],
    [
      'a monstrous header',
      new Uint8Array(8).fill(255),
      'header length 18446744073709551615 at byte 0 exceeds the limit of 100000000 bytes',
      0,
    ],
    [
      'a cut header',
      fileOf('{"a":1}').subarray(0, 12),
      'truncated at byte 12, the header of 7 bytes ends at byte 15',
      12,
    ],
    ['an empty header', fileOf(''), 'the header does not begin with { at byte 8', 8],
    ['a list', fileOf('[]'), 'the header does not begin with { at byte 8', 8],
    ['an entry that is no object', fileOf('{"a":[1]}'), '"a" must be an object with dtype, shape and data_offsets', 8],
    ['metadata of numbers', fileOf('{"__metadata__":{"a":1}}'), '__metadata__ must map names to strings', 8],
    [
      'an unsupported type',
      fileOf(`{"a":${tensorText(0, 1, 'F8_E4M3')}}`, [0]),
      '"a" has the unsupported dtype "F8_E4M3"; supported: BOOL, U8, F16, BF16, I32, F32, F64, I64',
      8,
    ],
    [
      'a negative size',
      fileOf(`{"a":${tensorText(0, 1, 'U8', '[-1]')}}`, [0]),
      '"a" has the shape [-1], not a list of sizes',
      8,
    ],
    ['a missing shape', fileOf('{"a":{"dtype":"U8"}}'), '"a" has the shape undefined, not a list of sizes', 8],
    [
      'one offset',
      fileOf('{"a":{"dtype":"U8","shape":[],"data_offsets":[0]}}'),
      '"a" has the data_offsets [0], not [begin, end]',
      8,
    ],
    [
      'an overflowing shape',
      fileOf(`{"a":${tensorText(0, 1, 'U8', '[4294967296,4294967296]')}}`, [0]),
      '"a" has the shape [4294967296,4294967296], whose size overflows',
      8,
    ],
    [
      'a shape that does not fit the bytes',
      fileOf(`{"a":${tensorText(0, 3, 'F32', '[1]')}}`, [0, 0, 0]),
      '"a": F32 [1] takes 4 bytes, data_offsets [0,3] give 3',
      8,
    ],
    [
      'an overlap',
      fileOf(`{"a":${tensorText(0, 2)},"b":${tensorText(1, 3)}}`, [1, 2, 3]),
      '"b" overlaps the tensor before it: it begins at 1, expected 2',
      8 + 105 + 1,
    ],
    [
      'a gap',
      fileOf(`{"a":${tensorText(0, 1)},"b":${tensorText(2, 3)}}`, [1, 2, 3]),
      '"b" leaves a gap before it: it begins at 2, expected 1',
      8 + 105 + 2,
    ],
    [
      'missing data',
      fileOf(`{"a":${tensorText(0, 3)}}`, [1, 2]),
      'truncated at byte 63: the tensors take 3 bytes, the file has 2',
      63,
    ],
    [
      'trailing data',
      fileOf(`{"a":${tensorText(0, 1)}}`, [1, 2]),
      '1 trailing bytes at byte 62 belong to no tensor',
      62,
    ],
    [
      'a name given twice',
      fileOf(`{"é":${tensorText(0, 1)},"\\u00e9":${tensorText(1, 2)}}`, [1, 2]),
      'duplicate key "\\u00e9" at byte 62',
      62,
    ],
    [
      'a field given twice',
      fileOf('{"a":{"dtype":"U8","dtype":"F32","shape":[],"data_offsets":[0,1]}}', [0]),
      'duplicate key "dtype" at byte 27',
      27,
    ],
  ])('%s', (_, bytes, message, offset) => {
    const error = failure(bytes);
    expect(error.message).toBe(`safetensors: ${message}`);
    expect(error.offset).toBe(offset);
  });

  test('broken JSON and broken UTF-8', () => {
    expect(failure(fileOf('{"a":')).message).toMatch(/^safetensors: the header at byte 8 is not JSON: /);
    const broken = fileOf('{"aa":1}');
    broken[10] = 0xff;
    expect(failure(broken).message).toBe('safetensors: the header at byte 8 is not UTF-8');
  });

  test('but not equal keys in different objects, nor keys inside strings', () => {
    const header = `{"dtype":${tensorText(0, 1)},"x":${tensorText(1, 2)},"__metadata__":{"dtype":"{\\"dtype\\": {","x":"}"}}`;
    expect(parseSafetensors(fileOf(header, [1, 2])).entries.size).toBe(2);
  });
});
