# pyright: reportIncompatibleMethodOverride=false
"""Editors of settings: a caption, an editor, a note; the presenter decides everything they show."""

import time

from PyQt6.QtCore import QEvent, QObject, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QKeyEvent, QResizeEvent
from PyQt6.QtWidgets import QComboBox, QLabel, QLineEdit, QVBoxLayout, QWidget

from gui.presenters.fields import EditField
from gui.presenters.log import Log
from gui.widgets.basic import ElidedLabel, label, set_enabled
from gui.widgets.link import Link
from gui.widgets.style import font, set_properties


class NumberEdit(QLineEdit):
    """A line editor with the unit at its right end."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = QLabel(unit, self)
        self._unit.setProperty("role", "caption")
        self._unit.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setTextMargins(0, 0, self._unit.sizeHint().width() + 4, 0)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Keep the unit at the right."""
        super().resizeEvent(event)
        size: QSize = self._unit.sizeHint()
        self._unit.resize(size)
        self._unit.move(self.width() - size.width() - 9, (self.height() - size.height()) // 2)


class FieldWidget(QWidget):
    """An `EditField` on the screen. Enter applies, Esc reverts, the wheel does nothing without focus."""

    changed = pyqtSignal()

    def __init__(self, field: EditField, link: Link, log: Log) -> None:
        super().__init__()
        self.field = field
        self._link, self._log = link, log
        self._had_focus = False
        self.editor = self._combo() if field.options else self._line()
        self.editor.setAccessibleName(field.name)
        self.editor.setFont(font(14))
        self.editor.setMinimumWidth(72)
        self.editor.installEventFilter(self)
        self.caption = label(field.name, "caption")
        self.caption.setBuddy(self.editor)
        self.note = ElidedLabel()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        for part in (self.caption, self.editor, self.note):
            column.addWidget(part)
        self.refresh(time.monotonic())

    def text(self) -> str:
        """Return what the editor holds."""
        return self.editor.currentText() if isinstance(self.editor, QComboBox) else self.editor.text().strip()

    def refresh(self, now_s: float) -> None:
        """Show what the presenter says; what is being typed is left alone."""
        view = self.field.view(now_s)
        self._enable(view.enabled)
        if not view.pending and view.text != self.text() and not self._typing():
            self._load(view.text)
        set_properties(self.editor, pending="true" if view.pending else "false")
        set_properties(self.note, role=view.role)
        self.note.set_full_text(view.note)
        if self.editor.toolTip() != view.tip:
            self.editor.setToolTip(view.tip)

    def _enable(self, enabled: bool) -> None:
        """Enable or disable the editor; after a write it gets the focus back, if nothing else has it."""
        self._had_focus = self._had_focus or (not enabled and self.editor.hasFocus())
        set_enabled(self.editor, enabled)
        if enabled and self._had_focus:
            self._had_focus = False
            window = self.window()
            if window is not None and window.focusWidget() is None:
                self.editor.setFocus()

    def apply(self) -> None:
        """Write the edit in a thread; the answer comes back to the field."""
        field = self.field
        value = field.apply()
        self._update()
        if value is None:
            return
        shown = f"{field.format(value)} {field.unit}".rstrip()

        def done(_result: object, error: str | None) -> None:
            if error:
                field.rejected(error)
                self._log.add("ERROR", field.reading.health.device, f"{field.name} not set to {shown}: {error}")
            else:
                field.written(time.monotonic())
                self._set_unmodified()
                self._log.add("INFO", field.reading.health.device, f"{field.name} set to {shown}")
            self._update()

        self._link.write(field.reading.health.device, field.reading.attribute, value, done)

    def revert(self) -> None:
        """Go back to what the device has."""
        self.field.revert()
        self._set_unmodified()
        self._update()

    def eventFilter(self, _watched: QObject | None, event: QEvent | None) -> bool:
        """Take Enter, Esc and the wheel from the editor."""
        if event is None:
            return False
        if event.type() == QEvent.Type.Wheel and not self.editor.hasFocus():
            event.ignore()
            return True
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self.apply()
                return True
            if event.key() == Qt.Key.Key_Escape:
                self.revert()
                return True
        return False

    def _line(self) -> QLineEdit:
        editor = NumberEdit(self.field.unit)
        editor.textEdited.connect(self._edited)
        editor.editingFinished.connect(self._left)
        return editor

    def _combo(self) -> QComboBox:
        editor = QComboBox()
        editor.addItems([option.label for option in self.field.options])
        editor.setCurrentIndex(-1)
        editor.activated.connect(self._edited)
        return editor

    def _edited(self) -> None:
        self.field.edit(self.text())
        self._update()

    def _left(self) -> None:
        if not self.field.pending:
            self._set_unmodified()

    def _typing(self) -> bool:
        return isinstance(self.editor, QLineEdit) and self.editor.hasFocus() and self.editor.isModified()

    def _set_unmodified(self) -> None:
        if isinstance(self.editor, QLineEdit):
            self.editor.setModified(False)

    def _load(self, text: str) -> None:
        if isinstance(self.editor, QComboBox):
            self.editor.setCurrentIndex(self.editor.findText(text))
        else:
            self.editor.setText(text)

    def _update(self) -> None:
        self.refresh(time.monotonic())
        self.changed.emit()
