// Text of the pages.

export function setText(element, content) {
  if (element.textContent !== content) element.textContent = content;
}
