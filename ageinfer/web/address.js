// Addresses of what belongs to this page: where there are several sources, with the one that it shows.

const source = new URLSearchParams(location.search).get("source");

// `values` are put into the query.
export function addressOf(path, values = {}) {
  const query = new URLSearchParams(source === null ? values : { source, ...values });
  return query.size ? `${path}?${query}` : path;
}
