// What every driver in Node shares: one JSON line on stdout per thing that the app's code sees, and the end of the
// driver when its stdin ends, so that none outlives the test that started it.

export const say = (saw) => process.stdout.write(`${JSON.stringify(saw)}\n`);

export const message = (event) => say({ saw: 'message', event: event.type, id: event.lastEventId, data: event.data });

process.stdin.on('end', () => process.exit(0)).resume();
