// Whether op calls are put on the tape.

let enabled = true;

/**
 * Whether gradients are being recorded. Source: torch.is_grad_enabled.
 *
 * @example
 * ```ts
 * import { isGradEnabled, noGrad } from 'feathermap';
 * if (!isGradEnabled() || noGrad(isGradEnabled)) throw new Error('wrong');
 * ```
 */
export function isGradEnabled(): boolean {
  return enabled;
}

function withMode<T>(name: string, mode: boolean, callback: () => T): T {
  if (typeof callback !== 'function') throw new TypeError(`${name}: expected a function, got ${typeof callback}`);
  const before = enabled;
  enabled = mode;
  try {
    const result = callback();
    if (typeof (result as { then?: unknown } | null)?.then === 'function')
      throw new TypeError(
        `${name}: the callback returned a promise; the mode ends when the callback returns, so it must be synchronous`,
      );
    return result;
  } finally {
    enabled = before;
  }
}

/**
 * Runs `callback` without recording gradients and returns what it returns. Inside, calling a module releases everything
 * it made except its result. Source: torch.no_grad.
 *
 * @throws TypeError if the callback returns a promise
 * @example
 * ```ts
 * import { init, noGrad, tensor } from 'feathermap';
 * await init();
 * const w = tensor([1, 2], { requiresGrad: true });
 * const y = noGrad(() => w.mul(2));
 * if (y.requiresGrad) throw new Error('recorded');
 * ```
 */
export function noGrad<T>(callback: () => T): T {
  return withMode('noGrad', false, callback);
}

/**
 * Records gradients inside a `noGrad`. Source: torch.enable_grad.
 *
 * @throws TypeError if the callback returns a promise
 * @example
 * ```ts
 * import { enableGrad, init, noGrad, tensor } from 'feathermap';
 * await init();
 * const w = tensor([1, 2], { requiresGrad: true });
 * const y = noGrad(() => enableGrad(() => w.mul(2)));
 * if (!y.requiresGrad) throw new Error('not recorded');
 * ```
 */
export function enableGrad<T>(callback: () => T): T {
  return withMode('enableGrad', true, callback);
}
