import Foundation
import Storage

/// Makes a folder a repository, as `reeve backup init` does.
func initializeRepository(_ folder: String) throws {
    if FileManager.default.fileExists(atPath: "\(folder)/\(RepositoryMark.name)") { return }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let mark = Data(try RepositoryMark(since: "2026-01-01T00:00:00Z").encoded())
    try mark.write(to: URL(fileURLWithPath: "\(folder)/\(RepositoryMark.name)"))
}
