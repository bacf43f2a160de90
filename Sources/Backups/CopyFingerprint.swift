import Catalog
import Foundation
import Hashing
import Postgres
import SQL

/// The fingerprint of rows in the format of COPY: the sum of the hashes of the rows. It can be computed while the rows
/// are dumped, and without a query. It excludes generated columns, and differs from the fingerprint that
/// `ContentFingerprint.read` computes for the same rows.
struct CopyFingerprint: ~Copyable {
    private var rows = 0
    private var halves: (UInt64, UInt64) = (0, 0)
    /// The digest of the row whose end has not been added yet.
    private var digest = Digest()

    /// Reads the fingerprint of a table in the open transaction, without planning a query. To be called after
    /// `ContentFingerprint.pinSettings`.
    static func read(
        _ relation: DatabaseContent.Relation, on connection: isolated Connection
    ) throws -> ContentFingerprint {
        var print = CopyFingerprint()
        let columns = relation.storedColumns.map(quoteIdentifier).joined(separator: ", ")
        let list = columns.isEmpty ? "" : " (\(columns))"
        return try ReadFailure.describing([relation]) {
            try connection.copyOut("COPY \(relation.path)\(list) \(relation.toStandardOutput)") { print.add($0) }
            return print.result
        }
    }

    /// Adds a piece of COPY's output.
    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes
        while let start = rest.baseAddress, let end = memchr(start, Int32(UInt8(ascii: "\n")), rest.count) {
            let length = UnsafeRawPointer(end) - start
            digest.update(UnsafeRawBufferPointer(rebasing: rest[..<length]))
            endRow()
            rest = UnsafeRawBufferPointer(rebasing: rest[(length + 1)...])
        }
        if !rest.isEmpty { digest.update(rest) }
    }

    private mutating func endRow() {
        let (one, other) = digest.next { bytes in
            (
                UInt64(bigEndian: bytes.load(as: UInt64.self)),
                UInt64(bigEndian: bytes.load(fromByteOffset: 8, as: UInt64.self))
            )
        }
        halves = (halves.0 &+ one, halves.1 &+ other)
        rows += 1
    }

    var result: ContentFingerprint { ContentFingerprint(rows: rows, halves: halves) }
}
