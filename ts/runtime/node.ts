// Where Node's own modules are to be had, without imports that browsers and bundlers would stumble over.

/**
 * The process of Node, Deno or Bun; undefined elsewhere. Edge workers have one too, whose modules do nothing, but no version of V8 to name.
 */
export function nodeProcess(): NodeJS.Process | undefined {
  const { process } = globalThis as { readonly process?: Partial<NodeJS.Process> };
  return process?.getBuiltinModule && process.versions?.v8 ? (process as NodeJS.Process) : undefined;
}
