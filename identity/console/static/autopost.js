// Submits the one form of the page that carries a protocol message; without scripts the person presses its button.
document.querySelector("form[data-autopost]").submit();
