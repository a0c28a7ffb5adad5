// The root is named, because Next.js would look for lock files further up otherwise.
export default { turbopack: { root: import.meta.dirname } };
