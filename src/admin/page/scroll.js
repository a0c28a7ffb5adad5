// Says of a region that scrolls on which sides there is more: bars that show only while they move say nothing of it.
import { mark } from './table.js';

/** Less than this is rounding. */
const NOTHING = 2;

/** Keeps `data-more` of a region: `right`, `below`, both or neither. */
export function markMore(region) {
  const look = () => {
    const right = region.scrollWidth - region.clientWidth - region.scrollLeft > NOTHING;
    const below = region.scrollHeight - region.clientHeight - region.scrollTop > NOTHING;
    mark(region, 'data-more', [right && 'right', below && 'below'].filter(Boolean).join(' '));
  };
  region.addEventListener('scroll', look, { passive: true });
  // It grows with its window, and what is in it with the figures.
  const sizes = new ResizeObserver(look);
  for (const element of [region, ...region.children]) sizes.observe(element);
}
