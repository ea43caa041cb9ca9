// The page shows times on the reader's clock once it knows which that is; without this it takes the destination's.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && document.documentElement.dataset.zone !== zone && !document.cookie.includes("ordermill_zone=" + zone)) {
  document.cookie = `ordermill_zone=${zone};path=/;max-age=31536000;samesite=lax`;
  if (document.cookie.includes("ordermill_zone")) location.reload();
}
