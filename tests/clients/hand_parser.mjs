// The parser that many front ends hold in some variant: split the text at empty lines, take the blocks that begin with
// `data: `. It is no library's; it stands here for the code that people wrote themselves around fetch.
import { say } from './say.mjs';

const response = await fetch(process.argv[2], { headers: { Accept: 'text/event-stream' } });
say({ saw: 'open' });
const decoder = new TextDecoder();
let rest = '';
try {
  for await (const bytes of response.body) {
    const blocks = (rest + decoder.decode(bytes, { stream: true })).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks.filter((block) => block.startsWith('data: '))) {
      say({ saw: 'message', event: 'message', id: '', data: block.slice('data: '.length) });
    }
  }
  say({ saw: 'end' });
} catch (error) {
  say({ saw: 'error', closed: true, text: String(error) });
}
