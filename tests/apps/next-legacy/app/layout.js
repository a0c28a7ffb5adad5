export const metadata = { title: 'Videos (Next.js)', icons: { icon: 'data:,' } };

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body style={{ font: '16px/1.5 sans-serif', margin: '2rem', maxWidth: '36rem' }}>{children}</body>
    </html>
  );
}
