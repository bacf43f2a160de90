import Foundation

/// The systems that come with the program.
public enum ShippedSystems {
    /// Their folder: `migrations` beside the program's sources, or below `share/reeve` where it is installed.
    public static let folder: String? = {
        let executable = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        var place = executable.deletingLastPathComponent()
        for _ in 0..<5 {
            for inner in ["share/reeve/migrations", "migrations"] {
                let candidate = place.appendingPathComponent(inner).path
                if FileManager.default.fileExists(atPath: "\(candidate)/platform/system.yaml") { return candidate }
            }
            place = place.deletingLastPathComponent()
        }
        return nil
    }()

    public static var names: [String] {
        guard let folder else { return [] }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.filter { FileManager.default.fileExists(atPath: "\(folder)/\($0)/system.yaml") }.sorted()
    }
}
