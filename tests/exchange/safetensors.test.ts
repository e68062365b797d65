import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { noGrad } from '../../ts/autograd/mode.ts';
import type { SafetensorsDtype } from '../../ts/exchange/safetensors.ts';
import {
  loadSafetensors,
  parseSafetensors,
  saveSafetensors,
  serializeSafetensors,
} from '../../ts/exchange/safetensors.ts';
import { Conv2d } from '../../ts/nn/conv.ts';
import { zero_ } from '../../ts/ops/copy.ts';
import '../../ts/methods.ts';
import { init, memoryStatistics, shutdown } from '../../ts/runtime/engine.ts';
import { tensor } from '../../ts/tensor/create.ts';
import { data } from '../../ts/tensor/read.ts';
import type { Tensor } from '../../ts/tensor/tensor.ts';

beforeAll(() => init({ threads: 1, debug: true }));
afterAll(shutdown);

function fileWith(dtype: SafetensorsDtype, values: { buffer: ArrayBuffer }, shape: number[]): Uint8Array {
  const entries = new Map([['t', { dtype, shape, bytes: new Uint8Array(values.buffer) }]]);
  return serializeSafetensors({ metadata: {}, entries });
}

const loaded = (bytes: Uint8Array): Tensor => loadSafetensors(bytes)['t'] as Tensor;

describe('loadSafetensors', () => {
  test("takes what Node's readFileSync returns: a Buffer, somewhere in a larger memory", () => {
    for (const values of [Float32Array.of(1.5, -2), Int32Array.of(3, 4), Uint8Array.of(5, 6)]) {
      const file = saveSafetensors({ t: tensor(values) });
      const whole = new Uint8Array(file.length + 13);
      whole.set(file, 13);
      expect([...data(loaded(Buffer.from(whole.buffer, 13)))]).toEqual([...values]);
    }
  });

  test.each<[SafetensorsDtype, { buffer: ArrayBuffer }, string, number[]]>([
    ['F32', Float32Array.of(1.5, -0), 'f32', [1.5, -0]],
    ['F16', Uint16Array.of(0x3e00, 0x7c00), 'f32', [1.5, Infinity]],
    ['BF16', Uint16Array.of(0x3fc0, 0xc000), 'f32', [1.5, -2]],
    ['F64', Float64Array.of(0.1, 2), 'f32', [Math.fround(0.1), 2]],
    ['I32', Int32Array.of(-1, 2147483647), 'i32', [-1, 2147483647]],
    ['I64', BigInt64Array.of(-2147483648n, 7n), 'i32', [-2147483648, 7]],
    ['U8', Uint8Array.of(0, 255), 'u8', [0, 255]],
    ['BOOL', Uint8Array.of(1, 0), 'u8', [1, 0]],
  ])('%s', (dtype, values, expected, numbers) => {
    const t = loaded(fileWith(dtype, values, [2, 1]));
    expect(t.dtype).toBe(expected);
    expect(t.shape).toEqual([2, 1]);
    expect(Array.from(data(t))).toEqual(numbers);
  });

  test('reads a scalar and data that are not aligned', () => {
    const scalar = loaded(fileWith('F32', Float32Array.of(3), []));
    expect([scalar.shape, Array.from(data(scalar))]).toEqual([[], [3]]);
    const file = fileWith('F32', Float32Array.of(1, 2), [2]);
    const shifted = new Uint8Array(file.length + 1);
    shifted.set(file, 1);
    expect(Array.from(data(loaded(shifted.subarray(1))))).toEqual([1, 2]);
  });

  test('refuses an I64 value that i32 cannot hold, and what is no file', () => {
    expect(() => loadSafetensors(fileWith('I64', BigInt64Array.of(1n, 2147483648n), [2]))).toThrow(
      "loadSafetensors: 't' element 1 is 2147483648, which does not fit i32",
    );
    expect(() => loadSafetensors(new ArrayBuffer(8) as unknown as Uint8Array)).toThrow(
      'loadSafetensors: the file must be given as a Uint8Array',
    );
  });
});

describe('saveSafetensors', () => {
  test('round trip, whatever the order and the names', () => {
    const a = tensor([
      [1, 2],
      [3, 4],
    ]);
    const b = tensor(Int32Array.of(5));
    const bytes = saveSafetensors({ 'conv1.weight': a, __proto__x: b }, { metadata: { format: 'pt' } });
    expect(saveSafetensors({ __proto__x: b, 'conv1.weight': a }, { metadata: { format: 'pt' } })).toEqual(bytes);
    const record = loadSafetensors(bytes);
    expect(Array.from(data(record['conv1.weight'] as Tensor))).toEqual([1, 2, 3, 4]);
    expect((record['__proto__x'] as Tensor).dtype).toBe('i32');
    expect(parseSafetensors(bytes).metadata).toEqual({ format: 'pt' });
    const strange = loadSafetensors(saveSafetensors(new Map([['__proto__', b]])));
    expect(Object.keys(strange)).toEqual(['__proto__']);
  });

  test('writes other types when asked', () => {
    const record = { steps: tensor(Int32Array.of(-3, 9)), w: tensor([0.1, -2]), mask: tensor(Uint8Array.of(0, 4)) };
    const dtypes = { steps: 'I64', w: 'BF16', mask: 'BOOL' } as const;
    const { entries } = parseSafetensors(saveSafetensors(record, { dtypes }));
    expect(entries.get('steps')).toMatchObject({ dtype: 'I64', shape: [2] });
    expect(Array.from(entries.get('w')?.bytes ?? [])).toEqual([0xcd, 0x3d, 0x00, 0xc0]);
    expect(Array.from(entries.get('mask')?.bytes ?? [])).toEqual([0, 1]);
    for (const dtype of ['F64', 'F16'] as const) {
      const back = loadSafetensors(saveSafetensors({ w: record.w }, { dtypes: { w: dtype } }));
      expect((data(back['w'] as Tensor)[0] as number) - 0.1).toBeCloseTo(0, dtype === 'F64' ? 8 : 4);
    }
  });

  test('refuses what cannot be written', () => {
    const w = tensor([1]);
    expect(() => saveSafetensors({ w: [1] as unknown as Tensor })).toThrow("saveSafetensors: 'w' is not a tensor");
    expect(() => saveSafetensors({ w }, { dtypes: { w: 'I64' } })).toThrow(
      "saveSafetensors: 'w' is f32 and cannot be written as I64",
    );
    expect(() => saveSafetensors({ w }, { dtypes: { w: 'F8' as 'F16' } })).toThrow(
      "saveSafetensors: 'w' is f32 and cannot be written as F8",
    );
    expect(() => saveSafetensors({ w }, { meta: {} } as object)).toThrow("saveSafetensors: unknown option 'meta'");
  });
});

describe('tensors of a file', () => {
  const layer = () => new Conv2d(2, 3, [2, 3]);

  test('take linear memory when they are first used, and none if a model takes their values over', () => {
    const source = layer();
    const expected = [...data(source.weight)];
    const file = saveSafetensors(source.stateDict());
    const before = memoryStatistics().blocks;
    const state = loadSafetensors(file);
    const net = layer();
    net.loadStateDict(state);
    expect(memoryStatistics().blocks).toBe(before);
    expect([...data(net.weight)]).toEqual(expected);
    expect(memoryStatistics().blocks).toBe(before + 1);
    expect([...data(state['weight']!)]).toEqual(expected);
    expect(memoryStatistics().blocks).toBe(before + 2);
  });

  test('are independent of the model that loaded them', () => {
    const state = loadSafetensors(saveSafetensors(layer().stateDict()));
    const [one, two] = [layer(), layer()];
    one.loadStateDict(state);
    noGrad(() => zero_(one.weight));
    two.loadStateDict(state);
    expect([...data(two.weight)]).toEqual([...data(state['weight']!)]);
    expect(data(one.weight).every((value) => value === 0)).toBe(true);
    one.loadStateDict(state);
    expect([...data(one.weight)]).toEqual([...data(two.weight)]);
  });
});
