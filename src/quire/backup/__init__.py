"""A whole project in one place: a tar file, a directory or an object store; and back, to another database and store.

index       what an export holds, to the byte       files      the project's own files
exporting   one snapshot of all of it               importing  all of it or nothing
contract    what writes an export, what reads one   archives   which of them a place has:
            tar_archive, directory_archive, object_archive
"""

from quire.backup.exporting import Exported, export_project
from quire.backup.importing import Imported, import_project

__all__ = ["Exported", "Imported", "export_project", "import_project"]
