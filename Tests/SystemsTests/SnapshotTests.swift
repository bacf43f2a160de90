import Catalog
import Foundation
import Migrations
import Postgres
import TestSupport
import Testing

/// The committed snapshots of the shipped systems are those of their migrations. REEVE_WRITE_REFERENCES=1 writes them.
@Suite(.heavy, .timeLimit(.minutes(5)))
struct ShippedSnapshotTests {
    @Test(.database) func `the committed snapshots are those of the migrations`() async throws {
        let settings = try TestDatabase.current.settings
        let validator = try SchemaValidator(database: Database(settings), systems: ShippedFixture.systems())
        if ProcessInfo.processInfo.environment["REEVE_WRITE_REFERENCES"] == "1" {
            _ = try await validator.writeSnapshots()
        }
        let snapshots = try await validator.snapshots()
        #expect(snapshots.count == 6)
        for (path, text) in snapshots {
            let committed = try String(contentsOfFile: path, encoding: .utf8)
            let (old, oldNotes) = try SchemaSnapshot.parse(committed, file: path)
            let (new, newNotes) = try SchemaSnapshot.parse(text, file: path)
            #expect(oldNotes == newNotes, "\(path) was made from other migrations; write it again")
            #expect(CatalogDiff().differences(expected: new, found: old) == [], "\(path)")
            // Another major version of the server writes some properties in another way.
            if old.serverVersion == new.serverVersion {
                #expect(committed == text, "\(path) differs; write it again with REEVE_WRITE_REFERENCES=1")
            }
        }
    }
}
