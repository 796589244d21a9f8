"""One mail and one rule, from what is in the mail to what is to become of it.

    examined -> shown -> disposed of -> (bad parts out, sanitized ones in -> shown again) -> vault -> texts and fields

`Judge` stores nothing and knows no recipient's row: `Judged` is what `scanning` and the pipeline turn into rows. The
hostile octets are read by the examiner in a process of its own; here are values only. What the scanner was not shown
is not delivered: a mail whose parts were taken out or replaced is shown again as it would go on.
Source: design section 3; issue 6.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from posthouse.core.announcements import Case
from posthouse.core.disposition import Action, Disposition, Finding, dispose
from posthouse.core.examination import AddField, CannotEdit, Edit, ItemKind, RemovePart, ReplacePart
from posthouse.core.inventory import Inventory
from posthouse.core.mail import Content, Mail, ScanRow, TrailEntry, UploadRow, UploadState
from posthouse.core.mime.notice_text import fill, notice
from posthouse.core.removed_text import replaced
from posthouse.core.rule import Rule
from posthouse.core.scan import Failure, Verdict, strictest
from posthouse.core.scan_section import OnFailed, Where
from posthouse.core.scan_variables import variables
from posthouse.core.vault_choice import chosen
from posthouse.core.vault_notice import KeptInVault, vault_notice
from posthouse.core.vault_section import VaultSection
from posthouse.mailflow.showing import Shown, show
from posthouse.ports import Clock, ContentSink
from posthouse.scan_ports import Examined, Examiner, Octets, ScanProfiles, ToUpload, Uploaded, UploadFailed, Vault
from posthouse.settings import NodeSettings
from posthouse.telemetry import logger

log = logger("judging")

UPLOAD_SECONDS = 600.0
"""For all attachments of one mail and rule."""
TO_QUARANTINE = ("X-Metadefender-To-Quarantine", "True")
RESULT = "X-Metadefender-Result"
_ON_FAILED = {
    OnFailed.RETRY: Action.RETRY,
    OnFailed.FAIL: Action.FAIL,
    OnFailed.QUARANTINE: Action.QUARANTINE,
}
_CLEAN = Disposition(Action.DELIVER, Verdict.CLEAN, "", {}, (), False, frozenset({Case.CLEAN}))


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to become of one mail for the recipients of one rule."""

    rule: str
    disposition: Disposition
    content: Content | None = None
    """What goes on in the place of the content; None: as it is. Claimed by the commit, or given back by `release`."""
    scans: tuple[ScanRow, ...] = ()
    uploads: tuple[UploadRow, ...] = ()
    trail: tuple[TrailEntry, ...] = ()
    edited: tuple[str, ...] = ()
    """What was changed in the content, for people."""
    keep_original: bool = False
    """Though it goes on: in quarantine, for it was sanitized."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Of the variables of notices."""
    sinks: tuple[ContentSink, ...] = ()

    def release(self) -> None:
        """After the commit, or instead of one."""
        for sink in self.sinks:
            sink.release()


@dataclass(frozen=True, slots=True)
class JudgeTools:
    """What a judge works with."""

    examiner: Examiner
    scanners: ScanProfiles
    vault: Vault
    clock: Clock
    open_content: Callable[[], ContentSink]


class Judge:
    """One worker's; `settings` are swapped whole on reload."""

    def __init__(self, tools: JudgeTools, settings: NodeSettings) -> None:
        self._tools = tools
        self.settings = settings

    async def examine(self, content: Content) -> Examined:
        """For all rules that judge this content; to be closed. Raises ExaminationFailed, ExaminerUnavailable."""
        return await self._tools.examiner.examine(content, self.settings.limits.examination)

    async def judge(
        self,
        mail: Mail,
        rule: Rule,
        addresses: Sequence[str],
        examined: Examined,
        inventory: Inventory,
        *,
        may_reject: bool,
    ) -> Judged:
        """`addresses`: the recipients that it is for. Raises ExaminationFailed, ExaminerUnavailable, and OSError if
        the disk refuses a new content."""
        case = _Case(self._tools, self.settings, mail, rule, addresses, inventory)
        try:
            return await case.judged(examined, may_reject)
        except BaseException:
            case.release()
            raise


class _Case:
    """One mail and one rule under way."""

    def __init__(
        self,
        tools: JudgeTools,
        settings: NodeSettings,
        mail: Mail,
        rule: Rule,
        addresses: Sequence[str],
        inventory: Inventory,
    ) -> None:
        self._tools, self._settings, self._mail, self._rule = tools, settings, mail, rule
        self._addresses, self._inventory = addresses, inventory
        self._sinks: list[ContentSink] = []
        self._scans: list[ScanRow] = []
        self._uploads: tuple[UploadRow, ...] = ()
        self._trail: list[TrailEntry] = []
        self._edited: list[str] = []
        self._values: Mapping[str, str] = {}

    def release(self) -> None:
        for sink in self._sinks:
            sink.release()

    async def judged(self, examined: Examined, may_reject: bool) -> Judged:
        section = self._rule.scan
        shown = await self._show(examined, sanitize=section is not None and section.sanitize)
        disposition = _CLEAN if section is None else dispose(section, shown.findings, may_reject=may_reject)
        self._values = self._variables(examined, shown)
        if disposition.action is Action.QUARANTINE and section is not None and section.quarantine is Where.EXTERNAL:
            return await self._kept_elsewhere(examined, disposition)
        if disposition.action is not Action.DELIVER:
            return self._end(disposition)
        with ExitStack() as opened:
            return await self._delivered(examined, shown, disposition, opened)

    async def _show(self, examined: Examined, *, sanitize: bool) -> Shown:
        seconds = float(self._settings.limits.scan_seconds)
        tools = self._tools
        shown = await show(
            tools.scanners,
            tools.clock,
            self._mail,
            self._rule,
            examined,
            self._inventory,
            seconds,
            sanitize=sanitize,
        )
        self._scans += shown.rows
        if self._rule.scan is not None:
            detail: dict[str, object] = {
                "rule": self._rule.name,
                "profiles": [dict(walk) for walk in shown.walks],
                "verdict": strictest(f.verdict for f in shown.findings).value,
                "items": len(examined.examination.items),
                "seconds": round(shown.seconds, 3),
            }
            self._trail.append(TrailEntry(tools.clock.now(), "scanned", detail))
        return shown

    # --- a mail that goes on -----------------------------------------------------------------------------

    async def _delivered(
        self, examined: Examined, shown: Shown, disposition: Disposition, opened: ExitStack
    ) -> Judged:
        section, vault, current = self._rule.scan, self._rule.vault, examined
        content: Content | None = None
        if disposition.strip or disposition.sanitized:
            try:
                content = await self._cleaned(examined, shown, disposition)
            except CannotEdit as error:
                return self._end(self._not_edited(disposition, str(error)))
            current = await self._tools.examiner.examine(content, self._settings.limits.examination)
            opened.callback(current.close)
            again = await self._show(current, sanitize=False)
            assert section is not None
            second = dispose(section, again.findings, may_reject=False)
            if second.action is not Action.DELIVER or second.strip:
                return self._end(_still_bad(disposition, second))
        kept: Sequence[tuple[str, ToUpload, Uploaded]] = ()
        if vault is not None:
            verdicts = _by_part(shown.findings)
            paths = chosen(vault.attachments, examined.examination.parts, verdicts)
            source = examined if vault.attachments.originals else current
            try:
                kept = await self._upload(vault, paths, source)
            except UploadFailed as error:
                self._failed_uploads(vault, paths, source, str(error))
                if vault.on_failed is not OnFailed.BYPASS:
                    why = f"the vault did not take an attachment: {error}"
                    return self._end(replace(_ended(disposition, _ON_FAILED[vault.on_failed]), why=why))
                disposition = replace(disposition, marked=True, cases=disposition.cases | {Case.FAILED})
            if kept:
                disposition = replace(disposition, cases=disposition.cases | {Case.UPLOADED})
        edits, told = self._last_edits(disposition, kept)
        if edits:
            try:
                content = await self._edit(current, edits, ())
                self._edited += told
            except CannotEdit as error:
                if any(isinstance(edit, RemovePart) for edit in edits):
                    return self._end(self._not_edited(disposition, str(error)))
                log.warning("texts not added", id=self._mail.id, why=str(error))
                self._edited.append(f"texts and fields not added: {error}")
        keep = bool(disposition.sanitized) and section is not None and section.quarantine_sanitized
        return self._end(disposition, content, keep)

    async def _cleaned(self, examined: Examined, shown: Shown, disposition: Disposition) -> Content:
        """Less its bad parts, and with sanitized ones in place. Raises CannotEdit."""
        edits: list[Edit] = []
        files: list[Octets] = []
        for path, finding in disposition.strip.items():
            edits.append(replaced(finding, self._settings.hostname, self._mail.id))
            self._edited.append(f"part {path} taken out: {finding.verdict.value}")
        for path in disposition.sanitized:
            scanned = shown.sanitized.get(path)
            if scanned is None or scanned.sanitized is None:
                raise CannotEdit(f"what was sanitized of part {path} is not there")
            edits.append(ReplacePart(path, len(files), "", scanned.sanitized_name))
            files.append(scanned.sanitized)
            self._edited.append(f"part {path} sanitized")
        return await self._edit(examined, edits, files)

    async def _edit(self, examined: Examined, edits: Sequence[Edit], files: Sequence[Octets]) -> Content:
        sink = self._tools.open_content()
        self._sinks.append(sink)
        made = await examined.edit(edits, files, sink)
        return sink.close(size=made.size, header=made.header, normalised=0).content

    def _last_edits(
        self, disposition: Disposition, kept: Sequence[tuple[str, ToUpload, Uploaded]]
    ) -> tuple[list[Edit], list[str]]:
        """Attachments that the vault has, texts of the rule, fields; and what people are told of it."""
        section, vault = self._rule.scan, self._rule.vault
        edits: list[Edit] = []
        told: list[str] = []
        if kept and vault is not None:
            if vault.remove:
                gone = [path for path, _, _ in kept if path not in disposition.strip]
                edits += [RemovePart(path) for path in gone]
                told += [f"part {path} removed, it is in the vault" for path in gone]
            files = [KeptInVault(file.name, file.octets.size, where.url) for _, file, where in kept]
            edits.append(vault_notice(files, removed=vault.remove, expires=self._expires(vault)))
            told.append("links to the vault added")
        if section is not None:
            for each in section.disclaimers:
                if not each.on or each.on & disposition.cases:
                    edits.append(notice(each.text, self._values, each.style, each.position))
                    told.append(f"disclaimer added at the {each.position.value}")
            for header in section.headers:
                if not header.on or header.on & disposition.cases:
                    edits.append(AddField(header.name, fill(header.value, self._values)))
                    told.append(f"field {header.name} added")
        if disposition.marked:
            edits.append(AddField(RESULT, disposition.why or disposition.verdict.value))
            told.append(f"field {RESULT} added")
        return edits, told

    def _expires(self, vault: VaultSection) -> date | None:
        if not vault.expires_days:
            return None
        return (datetime.fromtimestamp(self._tools.clock.now(), UTC) + timedelta(days=vault.expires_days)).date()

    # --- vault -------------------------------------------------------------------------------------------

    async def _upload(
        self, vault: VaultSection, paths: Sequence[str], source: Examined
    ) -> list[tuple[str, ToUpload, Uploaded]]:
        """Raises UploadFailed."""
        files = _attachments(paths, source)
        if not files:
            return []
        profile = self._inventory.profiles.get(vault.profile)
        if profile is None:
            raise UploadFailed(f"there is no server profile {vault.profile}", again=False)
        stored = await self._tools.vault.upload(
            profile, str(uuid.uuid4()), [file for _, file in files], vault.expires_days, UPLOAD_SECONDS
        )
        kept = [(path, file, where) for (path, file), where in zip(files, stored, strict=True)]
        now = self._tools.clock.now()
        self._uploads = tuple(
            [
                self._upload_row(vault, path, file, UploadState.DONE, now, url=where.url, file_id=where.file_id)
                for path, file, where in kept
            ]
        )
        told = [{"name": file.name, "size": file.octets.size, "url": where.url} for _, file, where in kept]
        self._trail.append(TrailEntry(now, "uploaded", {"profile": vault.profile, "files": told}))
        return kept

    def _failed_uploads(self, vault: VaultSection, paths: Sequence[str], source: Examined, why: str) -> None:
        now = self._tools.clock.now()
        self._uploads = tuple(
            [
                self._upload_row(vault, path, file, UploadState.FAILED, now, why=why)
                for path, file in _attachments(paths, source)
            ]
        )

    def _upload_row(
        self,
        vault: VaultSection,
        path: str,
        file: ToUpload,
        state: UploadState,
        now: float,
        *,
        url: str = "",
        file_id: str = "",
        why: str = "",
    ) -> UploadRow:
        return UploadRow(
            rule=self._rule.name,
            profile=vault.profile,
            part=path,
            name=file.name,
            size=file.octets.size,
            state=state,
            at=now,
            url=url,
            file_id=file_id,
            why=why,
        )

    # --- ends --------------------------------------------------------------------------------------------

    async def _kept_elsewhere(self, examined: Examined, disposition: Disposition) -> Judged:
        """External quarantine: the original goes on, with the field that has the next hop keep it."""
        try:
            content = await self._edit(examined, (AddField(*TO_QUARANTINE),), ())
        except CannotEdit as error:
            log.warning("kept here, not by the next hop", id=self._mail.id, why=str(error))
            return self._end(disposition)
        self._edited.append(f"field {TO_QUARANTINE[0]} added")
        return self._end(_ended(disposition, Action.DELIVER), content)

    def _not_edited(self, disposition: Disposition, why: str) -> Disposition:
        """Kept, unless the rule says otherwise: to try again leads nowhere, and what was to be taken out must not go
        on."""
        section = self._rule.scan
        on_failed = section.on_errors.get(Failure.EDIT) if section is not None else None
        action = _ON_FAILED.get(on_failed or OnFailed.QUARANTINE, Action.QUARANTINE)
        return replace(_ended(disposition, action), why=f"the mail could not be modified: {why}")

    def _end(self, disposition: Disposition, content: Content | None = None, keep_original: bool = False) -> Judged:
        return Judged(
            rule=self._rule.name,
            disposition=disposition,
            content=content,
            scans=tuple(self._scans),
            uploads=self._uploads,
            trail=tuple(self._trail),
            edited=tuple(self._edited) if disposition.action is Action.DELIVER else (),
            keep_original=keep_original,
            values=self._values,
            sinks=tuple(self._sinks),
        )

    def _variables(self, examined: Examined, shown: Shown) -> Mapping[str, str]:
        return variables(self._mail, self._addresses, dict(examined.examination.header), shown.findings)


def _attachments(paths: Sequence[str], source: Examined) -> list[tuple[str, ToUpload]]:
    """The parts with their octets; a part whose octets are nowhere cannot be one that was chosen."""
    items = {item.part: item for item in source.examination.items if item.kind is ItemKind.PART}
    found = []
    for path in paths:
        item = items.get(path)
        if item is not None:
            name = item.names[0] if item.names else f"part-{path}"
            found.append((path, ToUpload(name, source.octets(item))))
    return found


def _by_part(findings: Sequence[Finding]) -> dict[str, Verdict]:
    verdicts: dict[str, Verdict] = {}
    for finding in findings:
        if finding.part:
            verdicts[finding.part] = strictest((verdicts.get(finding.part, Verdict.CLEAN), finding.verdict))
    return verdicts


def _ended(disposition: Disposition, action: Action) -> Disposition:
    return replace(disposition, action=action, strip={}, sanitized=())


def _still_bad(first: Disposition, second: Disposition) -> Disposition:
    """What was found in the mail as it would have gone on."""
    action = second.action if second.action is not Action.DELIVER else Action.QUARANTINE
    why = f"after parts were taken out or replaced: {second.why}"
    verdict = strictest((first.verdict, second.verdict))
    return Disposition(action, verdict, why, {}, (), False, (first.cases | second.cases) - {Case.CLEAN})
