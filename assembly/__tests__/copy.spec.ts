// Copies between layouts, casts and transposes.
import { CopyArgs, copy, copyBytes } from '../copy';
import { castF32ToI32, castF32ToU8 } from '../cast';
import { TransposeArgs, transpose } from '../transpose';

/** A record that copies [rows, columns] from the transposed layout into a dense one. */
function transposed(rows: i32, columns: i32, yWidth: i32, xWidth: i32): CopyArgs {
  const args = changetype<CopyArgs>(heap.alloc(64));
  args.y = heap.alloc(yWidth * rows * columns + 64);
  args.x = heap.alloc(xWidth * rows * columns + 64);
  args.dims = heap.alloc(32);
  args.rank = 2;
  args.count = rows * columns;
  const words: i32[] = [columns, yWidth, xWidth * rows, rows, yWidth * columns, xWidth];
  for (let i = 0; i < 6; i++) store<i32>(args.dims + 4 * i, words[i]);
  return args;
}

describe('copy', () => {
  it('reads any strides, words and bytes', () => {
    const words = transposed(3, 5, 4, 4);
    for (let i = 0; i < 15; i++) store<i32>(words.x + 4 * i, i);
    copy(words, 0, 1, 0);
    const bytes = transposed(3, 5, 1, 1);
    for (let i = 0; i < 15; i++) store<u8>(bytes.x + i, <u8>i);
    copyBytes(bytes, 0, 1, 0);
    for (let i = 0; i < 15; i++) {
      expect<i32>(load<i32>(words.y + 4 * i)).toBe((i % 5) * 3 + i / 5);
      expect<i32>(load<u8>(bytes.y + i)).toBe((i % 5) * 3 + i / 5);
    }
  });
});

describe('casts', () => {
  it('truncate, saturate, wrap', () => {
    const inputs: f32[] = [1.9, -1.9, 3e9, NaN, 256.5, -1];
    const whole: i32[] = [1, -1, i32.MAX_VALUE, 0, 256, -1];
    const bytes: i32[] = [1, 255, 255, 0, 0, 255];
    const toInt = transposed(1, 6, 4, 4);
    const toByte = transposed(1, 6, 1, 4);
    for (let i = 0; i < 6; i++) {
      store<f32>(toInt.x + 4 * i, inputs[i]);
      store<f32>(toByte.x + 4 * i, inputs[i]);
    }
    castF32ToI32(toInt, 0, 1, 0);
    castF32ToU8(toByte, 0, 1, 0);
    for (let i = 0; i < 6; i++) {
      expect<i32>(load<i32>(toInt.y + 4 * i)).toBe(whole[i]);
      expect<i32>(load<u8>(toByte.y + i)).toBe(bytes[i]);
    }
  });
});

describe('transpose', () => {
  it('moves planes of any size, band by band, and nothing behind', () => {
    for (let rows = 1; rows < 10; rows++) {
      for (let columns = 1; columns < 10; columns++) {
        const count = rows * columns;
        const args = changetype<TransposeArgs>(heap.alloc(64));
        args.y = heap.alloc(4 * count + 64);
        args.x = heap.alloc(4 * count + 64);
        args.rank = 0;
        args.rows = rows;
        args.columns = columns;
        args.yStride = 4 * columns;
        args.xStride = 4 * rows;
        args.band = 4;
        args.bands = (rows + 3) / 4;
        for (let i = 0; i < count; i++) store<i32>(args.x + 4 * i, i);
        store<i32>(args.y + 4 * count, -7);
        transpose(args, 0, args.bands, 0);
        let wrong = 0;
        for (let i = 0; i < count; i++) {
          if (load<i32>(args.y + 4 * i) != (i % columns) * rows + i / columns) wrong++;
        }
        expect<i32>(wrong).toBe(0);
        expect<i32>(load<i32>(args.y + 4 * count)).toBe(-7);
      }
    }
  });
});
