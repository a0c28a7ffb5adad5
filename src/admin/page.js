// Shows /api/stats, asked anew every two seconds while the page can be seen.
'use strict';

const byId = (id) => document.getElementById(id);
const sum = (object) => Object.values(object).reduce((total, value) => total + value, 0);
const seconds = (value) => (value == null ? '–' : value < 10 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`);

function figure(id, value, isBad) {
  byId(id).textContent = value.toLocaleString('en');
  byId(id).classList.toggle('bad', Boolean(isBad));
}

function rows(id, list) {
  byId(id).replaceChildren(...list.map((cells) => {
    const row = document.createElement('tr');
    for (const cell of cells) {
      const td = document.createElement('td');
      td.textContent = typeof cell === 'number' ? cell.toLocaleString('en') : cell;
      if (typeof cell === 'number') td.className = 'number';
      row.append(td);
    }
    return row;
  }));
}

function notNull(object) {
  const parts = Object.entries(object).filter(([, count]) => count > 0).map(([name, count]) => `${name} ${count}`);
  return parts.join(', ') || '–';
}

function show(stats) {
  const total = (pick) => stats.routes.reduce((all, route) => all + pick(route), 0);
  byId('state').textContent = `${stats.state}, version ${stats.version}, up for ${seconds(stats.uptime_seconds)}`;
  figure('active', total((route) => route.active));
  figure('stale', total((route) => route.stale), total((route) => route.stale) > 0);
  figure('topic-count', stats.topics.total);
  const { poll, subscribe, authorize } = stats.upstream_requests;
  figure('asked', sum(poll) + sum(subscribe) + sum(authorize));
  const invalid = total((route) => sum(route.invalid_state_errors));
  figure('invalid', invalid, invalid > 0);
  figure('rejected', sum(stats.rejected), sum(stats.rejected) > 0);
  rows('routes', stats.routes.map((route) => [
    route.route, route.active, route.stale, route.opened, notNull(route.closed),
    notNull(route.job_state_violations), route.active ? seconds(route.data_age_seconds) : '–',
  ]));
  rows('slowest', stats.streams.slowest.map((stream) => [
    stream.route, stream.address, seconds(stream.age_seconds), seconds(stream.unacknowledged_seconds),
    seconds(stream.blocked_seconds),
  ]));
  rows('topics', stats.topics.listed.map((topic) => [
    topic.route, topic.topic, topic.phase, topic.subscribers, seconds(topic.age_seconds),
    topic.pace_seconds == null ? 'stream' : seconds(topic.pace_seconds), topic.status_field ?? '–', topic.status ?? '–',
  ]));
  const { total: all, listed } = stats.topics;
  byId('topics-note').textContent = all > listed.length ? `The ${listed.length} with most subscribers, of ${all}.` : '';
}

async function refresh() {
  try {
    const answer = await fetch('api/stats', { cache: 'no-store' });
    show(await answer.json());
  } catch {
    byId('state').textContent = 'not answering; trying again';
  }
}

setInterval(() => { if (!document.hidden) refresh(); }, 2000);
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
refresh();
