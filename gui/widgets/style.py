"""The look: Fusion, a palette, one style sheet, and Inter with digits of equal width.

What a widget is stands in its properties (`role`, `kind`, `pending`, `stale`, `armed`); `set_properties` repaints it.
"""

from pathlib import Path

import pyqtgraph
from PyQt6.QtGui import QColor, QFont, QFontDatabase, QPalette
from PyQt6.QtWidgets import QApplication, QWidget

from gui.presenters import palette as p

FAMILY = "Inter"
_FONTS = Path("/usr/share/fonts/opentype/inter")
_WEIGHTS = ("Regular", "Medium", "SemiBold", "Bold")
_CHEVRON = (Path(__file__).parent / "chevron.svg").as_posix()

SHEET = f"""
* {{ font-family: "{FAMILY}", "DejaVu Sans"; font-size: 13px; color: {p.TEXT}; }}
QMainWindow, #root {{ background: {p.BACKGROUND}; }}
QScrollArea, #inner {{ background: transparent; border: 0; }}
QToolTip {{ background: {p.RAISED}; color: {p.VALUE}; border: 1px solid {p.INPUT_BORDER}; padding: 4px 6px; }}
#card {{ background: {p.PANEL}; border: 1px solid {p.LINE}; border-radius: 8px; }}
#bar {{ background: {p.PANEL}; border: 0; border-bottom: 1px solid {p.LINE}; }}
#rule {{ background: {p.LINE}; border: 0; }}
QLabel {{ background: transparent; }}
QLabel[role="application"] {{ color: {p.VALUE}; font-size: 16px; font-weight: 600; }}
QLabel[role="title"] {{ color: {p.VALUE}; font-size: 14px; font-weight: 600; }}
QLabel[role="caption"] {{ color: {p.CAPTION}; font-size: 12px; }}
QLabel[role="pending"] {{ color: {p.PENDING}; font-size: 12px; }}
QLabel[role="error"] {{ color: {p.RED}; font-size: 12px; }}
QLabel[role="value"] {{ color: {p.VALUE}; font-size: 14px; font-weight: 500; }}
QLabel[role="number"] {{ color: {p.VALUE}; font-weight: 500; }}
QLabel[role="figure"] {{ color: {p.VALUE}; font-size: 22px; font-weight: 500; }}
QLabel[role="position"] {{ color: {p.VALUE}; font-size: 30px; font-weight: 500; }}
QLabel[role="unit"] {{ color: {p.CAPTION}; font-size: 15px; }}
QLabel[bad="true"] {{ color: {p.RED}; }}
QLabel[stale="true"] {{ color: {p.CAPTION}; }}
QPushButton {{ background: {p.RAISED}; color: {p.VALUE}; border: 1px solid #36424F; border-radius: 6px;
    padding: 0 10px; min-height: 28px; max-height: 28px; font-weight: 500; }}
QPushButton:hover {{ background: #28323D; border-color: {p.INPUT_BORDER}; }}
QPushButton:pressed {{ background: #313D4A; }}
QPushButton:focus {{ border: 2px solid {p.ACCENT}; padding: 0 9px; min-height: 26px; max-height: 26px; }}
QPushButton:disabled {{ color: {p.DISABLED}; background: #171C23; border: 1px solid #222A33; }}
QPushButton[kind="primary"] {{ background: {p.ACCENT}; color: {p.INPUT}; border-color: {p.ACCENT}; font-weight: 600; }}
QPushButton[kind="primary"]:hover {{ background: #A7C7FA; }}
QPushButton[kind="primary"]:focus {{ border: 2px solid {p.VALUE}; }}
QPushButton[kind="primary"]:disabled {{ color: {p.DISABLED}; background: #171C23; border: 1px solid #222A33; }}
QPushButton[kind="stop"] {{ background: {p.RED}; color: {p.INPUT}; border-color: {p.RED}; font-weight: 700;
    font-size: 15px; min-height: 44px; max-height: 44px; }}
QPushButton[kind="stop"]:hover {{ background: #FF9474; }}
QPushButton[kind="stop"]:focus {{ border: 2px solid {p.VALUE}; min-height: 42px; max-height: 42px; }}
QPushButton[kind="jog"] {{ font-size: 17px; padding: 0; }}
QPushButton[armed="true"] {{ background: {p.mix(p.PANEL, p.RED, 0.22)}; color: #FFC2B3; border-color: {p.RED}; }}
QPushButton[segment] {{ border-radius: 0; min-height: 26px; max-height: 26px; padding: 0 12px; border-left-width: 0;
    color: {p.TEXT}; }}
QPushButton[segment="first"] {{ border-left-width: 1px; border-top-left-radius: 6px; border-bottom-left-radius: 6px; }}
QPushButton[segment="last"] {{ border-top-right-radius: 6px; border-bottom-right-radius: 6px; }}
QPushButton[segment="alone"] {{ border-left-width: 1px; border-radius: 6px; }}
QPushButton:checked {{ background: #33414F; color: {p.VALUE}; border-color: {p.INPUT_BORDER}; }}
QLineEdit, QComboBox {{ background: {p.INPUT}; color: {p.VALUE}; border: 1px solid {p.INPUT_BORDER};
    border-radius: 6px; padding: 0 8px; min-height: 28px; max-height: 28px; font-size: 14px;
    selection-background-color: #2F5597; selection-color: {p.VALUE}; }}
QLineEdit:focus, QComboBox:focus {{ border: 2px solid {p.ACCENT}; padding: 0 7px; min-height: 26px; max-height: 26px; }}
QLineEdit[pending="true"], QComboBox[pending="true"] {{ color: {p.PENDING}; border: 1px solid {p.PENDING};
    border-left: 4px solid {p.PENDING}; padding-left: 5px; }}
QLineEdit[pending="true"]:focus, QComboBox[pending="true"]:focus {{ border: 2px solid {p.PENDING};
    border-left: 4px solid {p.PENDING}; padding-left: 5px; }}
QLineEdit:disabled, QComboBox:disabled {{ color: {p.CAPTION}; border: 1px solid {p.LINE}; background: {p.PANEL}; }}
QLineEdit[pending="true"]:disabled, QComboBox[pending="true"]:disabled {{ border-left: 4px solid {p.LINE}; }}
QLineEdit[role="small"], QComboBox[role="small"] {{ min-height: 24px; max-height: 24px; font-size: 13px; }}
QComboBox::drop-down {{ border: 0; width: 24px; }}
QComboBox::down-arrow {{ image: url({_CHEVRON}); width: 12px; height: 12px; }}
QComboBox QAbstractItemView {{ background: {p.RAISED}; color: {p.VALUE}; border: 1px solid {p.INPUT_BORDER};
    outline: 0; selection-background-color: #2F4562; padding: 4px; }}
QTableView {{ background: transparent; border: 0; outline: 0; gridline-color: transparent;
    selection-background-color: {p.SELECTED}; selection-color: {p.VALUE}; }}
QHeaderView {{ background: transparent; border: 0; }}
QHeaderView::section {{ background: transparent; color: {p.CAPTION}; font-size: 12px; border: 0;
    border-bottom: 1px solid {p.LINE}; padding: 2px 6px 2px 4px; font-weight: 400; }}
QScrollBar:vertical {{ background: transparent; width: 10px; margin: 0; }}
QScrollBar::handle:vertical {{ background: #3A4654; border-radius: 4px; min-height: 30px; margin: 1px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
QSplitter::handle {{ background: {p.BACKGROUND}; }}
QSplitter::handle:hover {{ background: {p.LINE}; }}
QProgressBar {{ background: {p.INPUT}; border: 1px solid {p.LINE}; border-radius: 4px; }}
QProgressBar::chunk {{ background: #7E8FA3; border-radius: 3px; }}
"""

_ROLES = {
    QPalette.ColorRole.Window: p.BACKGROUND,
    QPalette.ColorRole.WindowText: p.TEXT,
    QPalette.ColorRole.Base: p.INPUT,
    QPalette.ColorRole.AlternateBase: p.RAISED,
    QPalette.ColorRole.Text: p.VALUE,
    QPalette.ColorRole.Button: p.RAISED,
    QPalette.ColorRole.ButtonText: p.VALUE,
    QPalette.ColorRole.ToolTipBase: p.RAISED,
    QPalette.ColorRole.ToolTipText: p.VALUE,
    QPalette.ColorRole.Highlight: "#2F5597",
    QPalette.ColorRole.HighlightedText: p.VALUE,
    QPalette.ColorRole.PlaceholderText: p.CAPTION,
    QPalette.ColorRole.Light: "#3A4654",
    QPalette.ColorRole.Midlight: p.LINE,
    QPalette.ColorRole.Mid: p.LINE,
    QPalette.ColorRole.Dark: p.INPUT,
    QPalette.ColorRole.Shadow: "#000000",
}


def apply_style(application: QApplication) -> None:
    """Give an application the look; before its first widget."""
    application.setStyle("Fusion")
    colours = QPalette()
    for role, colour in _ROLES.items():
        colours.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.WindowText, QPalette.ColorRole.ButtonText):
        colours.setColor(QPalette.ColorGroup.Disabled, role, QColor(p.DISABLED))
    application.setPalette(colours)
    for weight in _WEIGHTS:
        file = _FONTS / f"{FAMILY}-{weight}.otf"
        if file.exists():
            QFontDatabase.addApplicationFont(str(file))
    application.setFont(font(13, 400))
    application.setStyleSheet(SHEET)
    pyqtgraph.setConfigOptions(antialias=True, background=p.PANEL, foreground=p.CAPTION)


_known_fonts: dict[tuple[int, int, bool], QFont] = {}

_TIGHT = -0.055
"""Letter spacing of large numbers, in parts of their size: digits of equal width stand far apart."""


def font(pixels: int, weight: int = 500, *, tight: bool = False) -> QFont:
    """Return the application's font in a size and weight, with digits of equal width; `tight` is for large numbers."""
    key = pixels, weight, tight
    if key not in _known_fonts:
        made = QFont()
        made.setFamilies([FAMILY, "DejaVu Sans"])
        made.setPixelSize(pixels)
        made.setWeight(QFont.Weight(weight))
        made.setFeature(QFont.Tag("tnum"), 1)
        if tight:
            made.setLetterSpacing(QFont.SpacingType.AbsoluteSpacing, pixels * _TIGHT)
        _known_fonts[key] = made
    return _known_fonts[key]


def set_properties(widget: QWidget, **properties: object) -> None:
    """Set properties the style sheet looks at, and repaint when one changed."""
    changed = [name for name, value in properties.items() if widget.property(name) != value]
    for name in changed:
        widget.setProperty(name, properties[name])
    style = widget.style()
    if changed and style is not None:
        style.unpolish(widget)
        style.polish(widget)
        widget.update()
