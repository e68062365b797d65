// Two parameters in one list: SGD with momentum by hand, the first step of Adam, tiles, and what must not be written.
import {
  ADAM_BETA1,
  ADAM_BETA2,
  ADAM_BLOCK_BYTES,
  ADAM_EPS,
  ADAM_LR,
  COUNTER_BYTES,
  COUNTER_POWER1,
  COUNTER_POWER2,
  COUNTER_STEPS,
  OPTIMIZER_TILE,
  OptimizerArgs,
  SGD_BLOCK_BYTES,
  SGD_LR,
  SGD_MOMENTUM,
  adam,
  adamAdvance,
  sgd,
  sgdAdvance,
} from '../optimizer';

const CANARY: f32 = -77;
const ENTRY: usize = 28;
const SMALL: i32 = 3;
const LARGE: i32 = OPTIMIZER_TILE + 5;

/** `count` equal numbers with a canary behind. */
function filled(count: i32, value: f32): usize {
  const address = heap.alloc(4 * count + 64);
  for (let i = 0; i < count; i++) store<f32>(address + 4 * i, value);
  store<f32>(address + 4 * count, CANARY);
  return address;
}

function entries(states: i32): OptimizerArgs {
  const args = changetype<OptimizerArgs>(heap.alloc(offsetof<OptimizerArgs>()));
  args.count = 2;
  args.entries = heap.alloc(2 * ENTRY);
  for (let i = 0; i < 2; i++) {
    const count = i ? LARGE : SMALL;
    const entry = args.entries + ENTRY * i;
    store<usize>(entry, filled(count, 1));
    store<usize>(entry, filled(count, 0.5), 4);
    store<usize>(entry, states > 0 ? filled(count, 0) : 0, 8);
    store<usize>(entry, states > 1 ? filled(count, 0) : 0, 12);
    const counter = block(COUNTER_BYTES);
    store<f64>(counter, 1, COUNTER_POWER1);
    store<f64>(counter, 1, COUNTER_POWER2);
    store<usize>(entry, counter, 16);
    store<i32>(entry, count, 20);
    store<i32>(entry, i, 24);
  }
  return args;
}

function block(bytes: usize): usize {
  const address = heap.alloc(bytes);
  memory.fill(address, 0, bytes);
  return address;
}

function steps(args: OptimizerArgs, i: i32): f64 {
  return load<f64>(load<usize>(args.entries + ENTRY * i, 16), COUNTER_STEPS);
}

/** All numbers of both parameters are `expected`, and the canaries still stand. */
function expectParameters(args: OptimizerArgs, expected: f32): void {
  for (let i = 0; i < 2; i++) {
    const parameter = load<usize>(args.entries + ENTRY * i);
    const count = i ? LARGE : SMALL;
    let wrong = 0;
    for (let k = 0; k < count; k++) if (abs(load<f32>(parameter + 4 * k) - expected) > 1e-6) wrong++;
    expect<i32>(wrong).toBe(0, `parameter ${i}: ${load<f32>(parameter)}`);
    expect<f32>(load<f32>(parameter + 4 * count)).toBe(CANARY);
  }
}

describe('optimisers', () => {
  it('SGD keeps its momentum', () => {
    const args = entries(1);
    args.block = block(SGD_BLOCK_BYTES);
    store<f64>(args.block, 0.1, SGD_LR);
    store<f64>(args.block, 0.9, SGD_MOMENTUM);
    sgdAdvance(args, 0, 2, 0);
    sgd(args, 0, 3, 0);
    expectParameters(args, 1 - 0.05);
    sgdAdvance(args, 0, 2, 0);
    sgd(args, 2, 3, 0);
    sgd(args, 0, 2, 0);
    expectParameters(args, 1 - 0.05 - 0.095);
    expect<f64>(steps(args, 0)).toBe(2);
    expect<f64>(steps(args, 1)).toBe(2);
  });

  it('the first step of Adam has the length of its rate', () => {
    const args = entries(2);
    args.block = block(ADAM_BLOCK_BYTES);
    store<f64>(args.block, 0.25, ADAM_LR);
    store<f64>(args.block, 0.9, ADAM_BETA1);
    store<f64>(args.block, 0.999, ADAM_BETA2);
    store<f64>(args.block, 1e-8, ADAM_EPS);
    adamAdvance(args, 0, 2, 0);
    adam(args, 0, 3, 0);
    expectParameters(args, 0.75);
    expect<f64>(steps(args, 1)).toBe(1);
  });
});
