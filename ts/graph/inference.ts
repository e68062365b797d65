// From a list of op calls to a program for inference: passes, algorithms, packed weights. `compile` feeds it captured models; other
// front ends, such as imported files, can feed it what they read.
import type { OpCall } from '../tensor/op.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type AlgorithmOptions, type Algorithms, chooseAlgorithms } from './choose-algorithms.ts';
import { dropIdentities } from './passes/drop-identities.ts';
import { dropUnused } from './passes/drop-unused.ts';
import type { Pass } from './passes/flow.ts';
import { foldBatchNorm } from './passes/fold-batch-norm.ts';
import { foldFlatten } from './passes/fold-flatten.ts';
import { fuseClamps } from './passes/fuse-clamps.ts';
import { fuseResiduals } from './passes/fuse-residuals.ts';
import { type Plan, planOf, type Timing } from './plan.ts';
import { type Profile, profileOf } from './profile.ts';
import { Program } from './program.ts';

/** How a program for inference is made. */
export interface InferenceSettings extends AlgorithmOptions {
  /** Gives the memory of parameters back that are not read any more once they are packed. */
  readonly releaseWeights: boolean;
}

/** What a program for inference takes and does. */
export interface InferencePlan extends Plan {
  /** The algorithm of each convolution by layer; `compile(model, { input, algorithms })` takes it back without measuring. */
  readonly algorithms: Algorithms;
}

/** What is done to the list, in this order: a convolution scales, then adds, then clamps. */
const PASSES: readonly Pass[] = [dropUnused, dropIdentities, foldFlatten, foldBatchNorm, fuseResiduals, fuseClamps];

/** A program for inference. */
export class Inference {
  readonly program: Program;
  readonly #algorithms: Algorithms;
  readonly #notes: ReadonlyMap<OpCall, string>;
  #timing: Timing | undefined;

  constructor(
    calls: readonly OpCall[],
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    settings: InferenceSettings,
  ) {
    const chosen = chooseAlgorithms(
      PASSES.reduce((list, pass) => pass(list, outputs), calls),
      settings,
    );
    try {
      const { releaseWeights } = settings;
      this.program = new Program(chosen.calls, inputs, outputs, { hoist: true, releaseWeights });
    } finally {
      chosen.done();
    }
    this.#algorithms = chosen.algorithms;
    this.#notes = chosen.notes;
  }

  /** What it takes and does; with times once it was profiled. */
  get plan(): InferencePlan {
    const plan = planOf([this.program], { timing: this.#timing, notes: this.#notes });
    return Object.assign(plan, { algorithms: this.#algorithms });
  }

  /** Runs it `runs` times and says where the time goes. */
  profile(inputs: readonly Tensor[], runs: number): Profile {
    return profileOf(this.program, inputs, runs, (timing) => {
      this.#timing = timing;
      return this.plan;
    });
  }
}
