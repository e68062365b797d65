// What training loops need besides layers. Source: torch.nn.utils.
import { gradientOf } from '../autograd/gradient.ts';
import { noGrad } from '../autograd/mode.ts';
import { CLIP_TILE, clipFactor, clipPartials, clipScale } from '../generated/kernels.ts';
import { apply, checkReadable, tableAddress } from '../tensor/apply.ts';
import { checkOptions, zeros } from '../tensor/create.ts';
import type { Op } from '../tensor/op.ts';
import { printed } from '../tensor/printed.ts';
import { locationOf, Tensor } from '../tensor/tensor.ts';

/** Options of `clipGradNorm_`. */
export interface ClipGradNormOptions {
  /** 2: the root of the sum of squares; Infinity: the largest magnitude. Default 2. */
  normType?: 2 | typeof Infinity | undefined;
}

interface ClipSettings {
  readonly maxNorm: number;
  readonly largest: boolean;
}

/** inputs: the gradients (changed). output: their norm. */
function clipOp(gradients: number): Op<ClipSettings, ClipSettings> {
  return {
    name: 'clipGradNorm_',
    infer: (_inputs, settings) => ({ geometry: settings, outputs: [{ shape: [], dtype: 'f32' }] }),
    lower(emit, { maxNorm, largest }, inputs, [norm]) {
      let tiles = 0;
      let elements = 0;
      const words = inputs.flatMap((gradient) => {
        const entry = [tableAddress(locationOf(gradient!), 'update'), gradient!.size, tiles];
        tiles += Math.ceil(gradient!.size / CLIP_TILE);
        elements += gradient!.size;
        return entry;
      });
      const entries = emit.table(words);
      const partials = emit.temporary(4 * tiles);
      const factor = emit.temporary(4);
      const count = inputs.length;
      const kind = largest ? 1 : 0;
      emit.command(clipPartials, { partials, entries, count, largest: kind }, { tiles, work: elements * 0.15 });
      const results = { norm: locationOf(norm!), factor };
      emit.command(clipFactor, { ...results, partials, tiles, largest: kind, maxNorm }, { tiles: 1, work: tiles });
      emit.command(clipScale, { entries, count, factor }, { tiles, work: elements * 0.2 });
    },
    backward: { notDifferentiable: 'it changes gradients in place' },
    saves: {},
    mutates: Array.from({ length: gradients }, (_, i) => i),
  };
}

/**
 * Scales the gradients of all parameters together so that their norm, taken as if they were one vector, is at most `maxNorm`, and
 * returns the norm they had (shape []). Parameters without a gradient are left out. In a captured step it belongs into `beforeUpdate`.
 *
 * Source: torch.nn.utils.clip_grad_norm_.
 *
 * @throws TypeError for what is no list of tensors, RangeError unless maxNorm >= 0 and normType is 2 or Infinity
 * @example
 * ```ts
 * import { init, nn, tensor } from 'feathermap';
 * await init();
 * const w = tensor([0, 0], { requiresGrad: true });
 * w.mul(tensor([3, 4])).sum().backward();
 * const norm = nn.utils.clipGradNorm_([w], 1);
 * if (norm.item() !== 5 || Math.abs(w.grad.data()[0] - 0.6) > 1e-6) throw new Error('wrong');
 * ```
 */
export function clipGradNorm_(
  parameters: Tensor | Iterable<Tensor>,
  maxNorm: number,
  options: ClipGradNormOptions = {},
): Tensor {
  checkOptions('clipGradNorm_', options, ['normType']);
  const { normType = 2 } = options;
  if (normType !== 2 && normType !== Number.POSITIVE_INFINITY)
    throw new RangeError(`clipGradNorm_: normType is 2 or Infinity, got ${printed(normType)}`);
  if (typeof maxNorm !== 'number' || !(maxNorm >= 0))
    throw new RangeError(`clipGradNorm_: maxNorm must be a number >= 0, got ${printed(maxNorm)}`);
  const list = parameters instanceof Tensor ? [parameters] : [...parameters];
  const gradients = list.flatMap((parameter) => {
    checkReadable('clipGradNorm_', parameter);
    const gradient = gradientOf(parameter);
    return gradient?.size ? [gradient] : [];
  });
  if (!gradients.length) return zeros([]);
  const settings = { maxNorm, largest: normType !== 2 };
  return noGrad(() => apply(clipOp(gradients.length), gradients, settings)[0]!);
}
