/* SERPENT_API marks what the shared library exports; everything else stays hidden. */
#ifndef SERPENT_EXPORT_H
#define SERPENT_EXPORT_H

#if defined(SERPENT_STATIC)
#define SERPENT_API
#elif defined(_WIN32)
#if defined(SERPENT_BUILDING)
#define SERPENT_API __declspec(dllexport)
#else
#define SERPENT_API __declspec(dllimport)
#endif
#else
#define SERPENT_API __attribute__((visibility("default")))
#endif

#endif /* SERPENT_EXPORT_H */
