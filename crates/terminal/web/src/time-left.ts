// How long the session lasts, in words.

/** Below this the learner is warned. */
export const SOON_SECONDS = 5 * 60;

/** `1 h 05 min left`, `4 min left`, `50 s left`, `ended`. The last minute, read aloud, goes in tens. */
export function describeTimeLeft(seconds: number): string {
  if (seconds <= 0) {
    return "ended";
  }
  if (seconds < 60) {
    return `${Math.ceil(seconds / 10) * 10} s left`;
  }
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) {
    return `${minutes} min left`;
  }
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min left`;
}
