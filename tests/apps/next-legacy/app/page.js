'use client';
// Written against the app's own streams: it knows {"type": ...} messages and nothing of a sidecar.
import { useEffect, useState } from 'react';

export default function Page() {
  const [state, setState] = useState('idle');
  const [progress, setProgress] = useState(0);
  const [messages, setMessages] = useState(0);
  const [session, setSession] = useState('');
  const [notifications, setNotifications] = useState([]);

  useEffect(() => {
    const source = new EventSource('/api/notifications/sse');
    source.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.type === 'connected') setSession(message.session);
      else setNotifications((all) => [...all, `notification ${message.count} for ${message.session}`]);
    };
    return () => source.close();
  }, []);

  function watch(id) {
    const source = new EventSource(`/api/progress/${id}`);
    source.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.videoId !== id) throw new Error(`progress of another video: ${event.data}`);
      setMessages((count) => count + 1);
      setProgress(message.progress);
      setState(message.type);
      if (message.type === 'completed') {
        source.close();
        setState(`completed: ${message.videoUrl}`);
      }
    };
  }

  async function start() {
    const answer = await fetch('/api/videos', { method: 'POST' });
    watch((await answer.json()).id);
  }

  return (
    <main>
      <h1>
        Videos <small style={{ color: '#0070f3', fontWeight: 'normal' }}>Next.js, App Router</small>
      </h1>
      <p>
        Signed in as <b id="session">{session}</b>
      </p>
      <button id="start" onClick={start}>
        Make a video
      </button>{' '}
      <progress id="bar" max="100" value={progress} style={{ width: '20rem', accentColor: '#0070f3' }} /> {progress} %
      <p id="state">{state}</p>
      <p>
        Messages of the progress stream: <b id="messages">{messages}</b>
      </p>
      <h2>Notifications</h2>
      <ul id="notifications" style={{ minHeight: '6rem' }}>
        {notifications.map((text) => (
          <li key={text}>{text}</li>
        ))}
      </ul>
    </main>
  );
}
